//! Names of schemas that somebody could try to get into an SQL text: all of them are refused.

use std::collections::BTreeSet;

use saga_postgres::SchemaName;

/// What ends a name, a statement or a text, or begins something else.
const BREAKERS: [&str; 40] = [
    "\"", "'", "`", ";", "--", "/*", "*/", "#", "\\", "$$", "$1", "$x$", "%", "%s", "{", "}",
    "{schema}", "(", ")", "[", "]", "<", ">", "=", "|", "||", "&", "!", "?", ":", "::", ",", ".",
    "..", "@", "~", "^", "+", "*", " ",
];

/// Letters that look like those of `saga`, and what is not seen at all.
const LOOKALIKES: [&str; 24] = [
    "ѕ", "а", "ɡ", "ｓ", "ａ", "ｇ", "𝐬", "𝗮", "ş", "à", "á", "ä", "å", "ğ", "ſ", "ß", "\u{200b}",
    "\u{200d}", "\u{202e}", "\u{feff}", "\u{a0}", "\u{ad}", "\u{301}", "\u{fffd}",
];

const WORDS: [&str; 30] = [
    "all",
    "and",
    "any",
    "array",
    "as",
    "between_is_not_here; select",
    "case",
    "cast",
    "check",
    "column",
    "create",
    "current_user",
    "default",
    "do",
    "else",
    "end",
    "false",
    "for",
    "from",
    "grant",
    "in",
    "into",
    "select",
    "session_user",
    "table",
    "to",
    "true",
    "union",
    "user",
    "where",
];

const WHOLE: [&str; 30] = [
    "saga\"; drop schema public cascade; --",
    "saga'; drop table saga.saga; --",
    "saga\" or \"1\"=\"1",
    "public.saga",
    "\"saga\"",
    "'saga'",
    "saga; commit",
    "saga\"; copy (select 1) to program 'id'; --",
    "saga\u{0}\"; select 1",
    "U&\"\\0022\"",
    "$$saga$$",
    "e'saga'",
    "pg_",
    "pg_catalog",
    "pg_toast",
    "pg_temp",
    "pg_temp_1",
    "pg_toast_temp_1",
    "pg_x",
    "information_schema",
    "../saga",
    "/etc/passwd",
    "C:\\saga",
    "http://saga",
    "${jndi:ldap://x}",
    "{{7*7}}",
    "%00",
    "NULL",
    "-1",
    "0x73616761",
];

fn hostile() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for breaker in BREAKERS.iter().chain(&LOOKALIKES) {
        names.extend([
            format!("{breaker}saga"),
            format!("sa{breaker}ga"),
            format!("saga{breaker}"),
        ]);
    }
    for code in (0..0x20).chain([0x7f, 0x80, 0x85, 0x9f]) {
        let control = char::from_u32(code).expect("a control character");
        names.extend([
            format!("{control}saga"),
            format!("sa{control}ga"),
            format!("saga{control}"),
        ]);
    }
    names.extend(('A'..='Z').map(|letter| format!("sag{letter}")));
    names.extend((0..10).map(|digit| format!("{digit}saga")));
    names.extend([0, 64, 65, 128, 1_000, 1_000_000].map(|length| "x".repeat(length)));
    names.extend(WORDS.map(str::to_owned));
    names.extend(WHOLE.map(str::to_owned));
    names
}

#[test]
fn s05_three_hundred_hostile_names_are_refused() {
    let hostile = hostile();
    assert!(hostile.len() >= 300, "{}", hostile.len());
    for name in hostile {
        let refused = SchemaName::parse(&name);
        let error = refused.expect_err(&name).to_string();
        assert!(error.len() < 1_000, "what is refused is not repeated at length");
        assert!(!error.contains(char::is_control), "nor as it is: {error:?}");
    }
}

#[test]
fn s05_the_longest_name_is_taken_and_no_longer_one() {
    for (length, is_name) in [(1, true), (62, true), (63, true), (64, false)] {
        assert_eq!(SchemaName::parse("s".repeat(length)).is_ok(), is_name, "{length}");
    }
}
