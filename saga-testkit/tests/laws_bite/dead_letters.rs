//! What the laws of dead letters catch.

crate::bites! {
    dead_letters:

    a_letter_is_handed_out_when_it_was_asked_for:
        RedrivesToAnybody RedrivesFromAnywhere RedrivesAtOnce RedrivesUnasked RedrivesWithoutALease
        CountsNoRedrives CutsDeadLetters;
    a_letter_is_handed_out_three_times_at_most:
        RedrivesForEver CountsNoRedrives;
    large_letters_are_handed_out_a_few_at_a_time:
        RedrivesAllOfThem;
    a_settled_letter_is_gone_and_one_set_aside_again_is_not:
        SettlesNothing SettlesWhatFailedAgain ForgetsTries CountsACommitTwice;
    a_letter_that_waits_comes_after_those_before_it:
        RedrivesInAnyOrder RedrivesNoneWithoutAKey DiscardsNothing;
    a_held_key_is_told_with_its_first_letter:
        HoldsNothing HoldsByTheLast HoldsWithoutAKey HoldsForAnybody;
    letters_are_listed_in_pages:
        ListsFromTheStart IgnoresLimits;
    large_letters_are_listed_a_few_at_a_time:
        ListsAllOfThem;
    a_filter_leaves_the_others_out:
        IgnoresFilters;
    a_discarded_letter_is_gone:
        DiscardsNothing DiscardsEverything;
    what_was_decided_is_on_record:
        ForgetsOperations NumbersFromTheStart;
}
