//! What is made of a list of laws.

/// Makes a slice of the names.
#[doc(hidden)]
#[macro_export]
macro_rules! __names {
    ([] $($law:ident)*) => { &[$(stringify!($law)),*] };
}

/// Makes a test of each law in a module: on what the fixture gives, on a runtime of its own.
#[doc(hidden)]
#[macro_export]
macro_rules! __tests {
    ([$module:ident, $fixture:path] $($law:ident)*) => {
        $(
            #[test]
            fn $law() {
                $crate::run(async { $crate::$module::$law($fixture().await).await });
            }
        )*
    };
}

/// A law that is written and not listed would never run.
#[cfg(test)]
mod tests {
    fn functions(sources: &[&str]) -> Vec<String> {
        let lines = sources.iter().flat_map(|source| source.lines());
        let names = lines.filter_map(|line| line.strip_prefix("pub async fn "));
        let mut names: Vec<_> =
            names.map(|rest| rest.split(['<', '(']).next().unwrap().to_owned()).collect();
        names.sort();
        names
    }

    fn sorted(laws: &[&str]) -> Vec<String> {
        let mut laws: Vec<_> = laws.iter().map(|&law| law.to_owned()).collect();
        laws.sort();
        laws
    }

    #[test]
    fn every_law_of_a_store_is_listed() {
        let sources = [
            include_str!("store/commits.rs"),
            include_str!("store/keys.rs"),
            include_str!("store/lists.rs"),
            include_str!("store/outbox.rs"),
            include_str!("store/races.rs"),
            include_str!("store/timers.rs"),
            include_str!("store/transactions.rs"),
        ];
        assert_eq!(functions(&sources), sorted(crate::store::LAWS));
    }

    #[test]
    fn every_law_of_an_inbox_is_listed() {
        assert_eq!(functions(&[include_str!("inbox.rs")]), sorted(crate::inbox::LAWS));
    }

    #[test]
    fn every_law_of_a_purge_is_listed() {
        assert_eq!(functions(&[include_str!("purge.rs")]), sorted(crate::purge::LAWS));
    }

    #[test]
    fn every_law_of_dead_letters_is_listed() {
        let sources = [include_str!("dead_letters.rs")];
        assert_eq!(functions(&sources), sorted(crate::dead_letters::LAWS));
    }
}
