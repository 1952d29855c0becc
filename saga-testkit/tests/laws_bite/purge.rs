//! What the laws of a purge catch.

crate::bites! {
    purge:

    an_ended_saga_is_purged_whole:
        PurgesNothing FindsUnknownKeys;
    a_saga_that_has_not_ended_is_never_purged:
        PurgesWhateverIsOld;
    a_saga_that_ended_lately_is_not_purged:
        IgnoresAges PurgesNothing;
    a_purge_looks_at_one_page_after_another:
        IgnoresLimits PurgesFromTheStart PurgesWhateverIsOld;
    a_purged_record_is_told_from_one_that_never_was:
        HidesWhatItPurged IgnoresLimits PurgesNothing;
    a_purged_command_cannot_be_recorded:
        SwallowsConflicts SendsInSpiteOfAConflict CommitsTheEffectFirst;
    attempts_at_old_commands_are_forgotten:
        PurgesNothing;
}
