//! What the laws of a store catch.

crate::bites! {
    store:

    a_tick_is_all_or_nothing:
        CommitsOneByOne SendsInSpiteOfAConflict DeletesInSpiteOfAConflict SetsAsideInSpiteOfAConflict
        ForgetsDeadLetters ForgetsWhatWasSent ForgetsWhatToSend;
    a_committed_saga_is_loaded_as_it_was_committed:
        CutsStates FoldsFingerprints RoundsWakeTimes ForgetsKeys ForgetsEndings;
    a_stale_commit_is_a_conflict:
        OverwritesWhatIsStale SwallowsConflicts SendsInSpiteOfAConflict;
    a_second_start_of_a_saga_is_a_conflict:
        OverwritesOnStart SwallowsConflicts SendsInSpiteOfAConflict;
    a_second_start_of_a_key_is_a_conflict:
        ForgetsKeys FreesKeysOfEndedSagas ChecksKeysThenWrites SwallowsConflicts;
    a_key_finds_its_saga:
        FindsOnlyOne FindsUnknownKeys;
    keys_of_different_definitions_are_different:
        FindsByKeyAlone KeepsKeysWithoutTheirDefinition;
    unknown_sagas_are_left_out_of_a_load:
        FailsOnUnknownSagas LoadsEverything;
    history_is_kept_in_order:
        HistoryComesBackwards HistoryIsSortedAsText MixesHistories ForgetsHistory;
    concurrent_commits_of_one_saga_have_one_winner:
        ChecksVersionsThenWrites SwallowsConflicts SendsInSpiteOfAConflict;
    commits_of_the_same_sagas_in_any_order_do_not_deadlock:
        LocksInTheOrderGiven;
    a_saga_is_due_from_its_wake_time_on:
        IgnoresTheHorizon IsAlwaysDue IsNeverDue ForgetsHome;
    a_kept_wake_time_stays:
        ForgetsKeptWakeTimes KeepsWakeTimesThatMove KeepsWakeTimesForEver;
    an_ended_saga_is_never_due:
        KeepsWakeTimesForEver;
    due_sagas_come_earliest_first_and_within_the_limit:
        DueInOrderOfIds LimitsBeforeItSorts IgnoresLimits;
    definitions_in_use_are_those_of_sagas_under_way:
        CountsNoSagas;
    sagas_are_listed_in_pages_newest_first:
        ListsOldestFirst ListsInOrderOfStarts ListsFromTheStart IgnoresLimits ForgetsChanges
        ForgetsKeys;
    a_filter_of_sagas_leaves_the_others_out:
        IgnoresFilters FiltersByNameAlone LimitsBeforeItFilters ForgetsEndings;
    a_dropped_transaction_changes_nothing:
        WritesOutsideTheTransaction;
    an_effect_and_its_tick_commit_together:
        ForgetsTheEffect CommitsTheEffectAlone WritesTheEffectTwice;
    a_conflict_undoes_the_effect:
        CommitsTheEffectFirst WritesOutsideTheTransaction;
    unsent_rows_come_back_in_order:
        OutboxComesBackwards LimitsFromTheEnd IgnoresLimits CutsRows;
    lanes_are_separate:
        MixesLanesOfAnOwner MixesOwners ReadsOneLaneOnly;
    sent_rows_are_gone_and_only_those:
        ForgetsWhatWasSent SentDoesNothing SentIsACursor FailsOnRowsThatAreGone;
    a_lease_has_one_holder:
        LeasesToAnybody LeasesForEver LetsAnybodyRelease RefusesRenewal LeasesAllLanesAtOnce
        ChecksLeasesThenWrites;
}
