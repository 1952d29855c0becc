//! What the laws of an inbox catch.

crate::bites! {
    inbox:

    a_record_is_found_again:
        CutsReplies ForgetsEmptyReplies CommitsTheEffectAlone;
    unknown_commands_are_left_out:
        InventsRecords;
    an_effect_and_its_record_commit_together:
        ForgetsTheEffect CommitsTheEffectAlone WritesTheEffectTwice;
    a_dropped_transaction_leaves_no_record:
        ClaimsWhatItLooksFor WritesOutsideTheTransaction;
    a_second_record_of_a_command_is_a_conflict:
        IgnoresSecondRecords SwallowsConflicts CommitsTheEffectFirst SendsInSpiteOfAConflict
        DeletesInSpiteOfAConflict SetsAsideInSpiteOfAConflict;
    concurrent_handlers_of_one_command_have_one_winner:
        HandlesBlindly SwallowsConflictsOfBlindHandlers;
    replies_wait_in_the_outbox:
        ForgetsWhatToSend ForgetsWhatWasSent;
    a_dead_letter_is_kept_once:
        KeepsEveryDeadLetter RefusesASecondDeadLetter CutsDeadLetters ForgetsDeadLetters;
    attempts_are_counted_until_they_end:
        CountsNoAttempts CountsAttemptsOnce EndsNoAttempts DoubtsWhatIsRecorded;
    a_recorded_command_has_no_attempts:
        ClaimsToCountWhatIsRecorded DoubtsWhatIsRecorded;
}
