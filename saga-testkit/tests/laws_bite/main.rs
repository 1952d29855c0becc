//! Each law holds for a sound backend and catches the broken ones that it is there for.

mod broken;
mod dead_letters;
mod inbox;
mod purge;
mod store;
mod transport;

use std::any::Any;
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Makes a test of each law of a module, and one that no law of the module is left out.
macro_rules! bites {
    ($module:ident: $($law:ident: $($defect:ident)+;)*) => {
        $(
            #[test]
            fn $law() {
                let law = |fixture| saga_testkit::run(saga_testkit::$module::$law(fixture));
                crate::catches(law, crate::broken::Broken::new, &[$(crate::broken::Defect::$defect),+]);
            }
        )*

        #[test]
        fn every_law_has_a_defect() {
            assert_eq!([$(stringify!($law)),*], saga_testkit::$module::LAWS);
        }
    };
}
use bites;

/// Runs a law on a sound backend, which must pass, and on one with each defect, which must not.
fn catches<F, D: Debug + Copy>(law: impl Fn(F), backend: impl Fn(Option<D>) -> F, defects: &[D]) {
    law(backend(None));
    for &defect in defects {
        let result = catch_unwind(AssertUnwindSafe(|| law(backend(Some(defect)))));
        let panic = result.expect_err(&format!("the law must catch a backend that {defect:?}"));
        let message = message(&*panic);
        assert!(!message.contains("hangs"), "{defect:?} must be told from a backend that hangs");
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).expect("a law panics with a text")
}
