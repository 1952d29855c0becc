//! What the laws of a transport catch.

mod broken;

use std::time::Duration;

use saga_testkit::transport::{Fixture, LAWS};

use self::broken::{Broken, Defect};

macro_rules! bites {
    ($($law:ident: $($defect:ident)+;)*) => {
        $(
            #[test]
            fn $law() {
                let law = |fixture| saga_testkit::run(saga_testkit::transport::$law(fixture));
                crate::catches(law, fixture, &[$(Defect::$defect),+]);
            }
        )*

        #[test]
        fn every_law_has_a_defect() {
            let mut bitten = [$(stringify!($law)),*];
            let mut laws = LAWS.to_vec();
            bitten.sort_unstable();
            laws.sort_unstable();
            assert_eq!(bitten[..], laws);
        }
    };
}

fn fixture(defect: Option<Defect>) -> Fixture<Broken> {
    // What a broken transport never does is waited for that long.
    Fixture::new(Broken::new(defect), "bite").patience(Duration::from_millis(500))
}

bites! {
    a_published_record_is_delivered:
        CutsKeys CutsValues ForgetsHeaders MergesHeaders ForgetsTimestamps DeliversTwice;
    records_of_a_partition_keep_their_order:
        DeliversBackwards IgnoresLimits;
    batches_are_appended_in_call_order:
        SmallBatchesOvertake;
    a_key_stays_in_one_partition:
        ScattersKeys IgnoresKeys;
    an_explicit_partition_is_kept:
        IgnoresPartitions;
    a_failed_publisher_takes_nothing_more:
        GoesOnAfterAFailure GoesOnInABatch;
    an_unknown_topic_is_an_error_and_not_created:
        CreatesTopics PublishesToNowhere SubscribesToNowhere;
    ensured_topics_keep_their_partitions:
        EmptiesTopics ResizesTopics;
    groups_receive_independently:
        HasOneGroup SharesOffsets;
    members_of_a_group_share_the_partitions:
        GivesEverythingToEveryMember SplitsTopicsDifferently KeepsClosedMembers;
    a_new_group_starts_at_the_beginning:
        SharesOffsets StartsAtTheEnd;
    an_acknowledgement_of_a_lost_partition_is_ignored:
        IgnoresOwnership IgnoresGenerations;
    what_is_not_acknowledged_is_delivered_again:
        AcknowledgesDeliveries AcknowledgesOnClose AcknowledgesOnDrop;
    what_is_acknowledged_is_not:
        ForgetsAcknowledgements TakesAcknowledgementsInOrder;
    a_gap_holds_the_watermark:
        StoresTheHighestOffset;
    a_dropped_receive_loses_nothing:
        LosesWhatADroppedReceiveHeld LosesChangesOfADroppedReceive;
}
