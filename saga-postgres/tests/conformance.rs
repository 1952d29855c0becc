//! The laws of every contract that the store keeps, on a real server.

mod support;

use support::fresh;

saga_testkit::store_conformance!(fresh);
saga_testkit::inbox_conformance!(fresh);
saga_testkit::purge_conformance!(fresh);
saga_testkit::dead_letter_conformance!(fresh);
