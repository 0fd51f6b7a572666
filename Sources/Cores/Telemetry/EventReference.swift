/// What each case of ``Happening`` means, beside what its declaration says already. docs/EVENTS.md is ``markdown``, written by
/// `make events`; a test compares.
public enum EventReference {
    /// Who emits it, and a heading of the page.
    public enum Section: CaseIterable, Sendable {
        case overlay, record, peer, member, gathering, rounds, states, recovery, drivers
    }

    /// What a person has to be told of a case.
    package struct Entry: Sendable {
        package var name: Happening.Name
        /// Whom the event's peer names; nil where there is none.
        package var peer: String?
        package var meaning: String
        /// By field in snake case: unit, or what else its name does not say.
        package var notes: KeyValuePairs<String, String> = [:]

        init(
            _ name: Happening.Name, of peer: String? = nil, _ meaning: String,
            _ notes: KeyValuePairs<String, String> = [:]
        ) {
            self.name = name
            self.peer = peer
            self.meaning = meaning
            self.notes = notes
        }
    }

    package static let entries: [Entry] =
        overlay + record + peer + member + gathering + rounds + states + recovery + drivers
}

extension Happening {
    /// Where the reference has it. A new case is asked for here by the compiler, and in ``EventReference`` by a test.
    public var section: EventReference.Section {
        switch self {
        case .overlayJoined, .bootstrapRetrying, .overlayIsolated, .externalAddress, .reachability, .unreachable,
            .connectionRefused, .strangersTurnedAway, .networkChanged, .connectionMade, .connectionInterrupted,
            .connectionResumed,
            .connectionLost, .connectionRelayed, .connectionPunched, .berthGranted, .berthLost, .portOpened,
            .portClosed, .memberJoined, .memberRemoved, .membershipRenewed, .inviteRevoked, .poolKeyChanged,
            .packetMalformed, .floodLimited:
            .overlay
        case .entryRefused, .logEntryRefused, .forked, .leaderChanged, .electorsChosen, .leadershipTaken,
            .recordCarried, .recordFound, .jobRefounded, .refoundingRefused, .launcherAwaited, .electorsContradict,
            .staleCommand,
            .notEntitled, .storageFailed, .storageRecovered:
            .record
        case .speedMeasured, .rehearsed, .jobAccepted, .offerDeclined, .jobReleased, .ownerPaused, .ownerResumed,
            .ownerLeaves,
            .workHeld, .workDraining, .workHandedOver, .workTakenUp, .limitUnseen, .limitChanged, .usageUnread,
            .processorTaken, .processorBack:
            .peer
        case .textComplete, .contentRefused, .chunkRefused, .peerLeft, .workPaused, .rejoined, .planReceived,
            .placementRefused,
            .stateRequested, .stateUnavailable, .stateWrong, .momentsInexact, .stateReady, .roundRewound,
            .roomShort, .roundStartFound, .roundStartStored, .roundStartRead, .roundStartFailed,
            .roundStartRefused, .copyFound, .copyStored, .copyFailed, .copySkipped,
            .sealIncompleteHere, .contributionMalformed, .contributionUnusable, .payloadCorrupt, .roundCounted,
            .workRefused:
            .member
        case .jobOpened, .jobResumed, .waitingForPeers, .peerFound, .peerUnfit, .peerDeclined, .peerJoined,
            .sharingText,
            .measuringLinks, .linksMeasured, .planning, .planned, .exchangeChosen, .placed, .pairRelayed, .planRefused:
            .gathering
        case .roundSealed, .waitingFor, .speedChanged, .exchangeRegrouped, .contributionRefused, .aggregatesDiffer,
            .ownerRefuted, .auditDiffers, .auditUnanswered, .receiptRefused, .receiptContradicts, .statesAgreed,
            .weightsDiffer, .weightsDisputed:
            .rounds
        case .checkpointSaved, .collectingWeights, .collectionProgress, .stateRefused, .stateMalformed: .states
        case .peerLost, .replaced, .othersGoOn, .pipelineRestarted, .replanned, .rolledBack, .diverged, .workImpossible,
            .supplyChosen, .trainingResumed, .interrupted,
            .resumed:
            .recovery
        case .stateUnread, .stateUnsaved, .logDamaged, .descriptorsScarce, .descriptorsBack, .controlClosed,
            .controlRestored, .listening, .status, .evaluating, .evaluationProgress, .checkpointStored,
            .checkpointFailed, .peerKilled, .fault:
            .drivers
        }
    }
}

extension EventReference.Section {
    var title: String {
        switch self {
        case .overlay: "The overlay and connections"
        case .record: "The record of a job"
        case .peer: "A peer: work offered and taken"
        case .member: "A peer in a job"
        case .gathering: "The coordinator: gathering and planning"
        case .rounds: "The coordinator: rounds"
        case .states: "The coordinator: states that come back"
        case .recovery: "The coordinator: losses and recovery"
        case .drivers: "What drivers add"
        }
    }
    var introduction: String {
        switch self {
        case .overlay: "Emitted in every daemon. The overlay's own effects become events here."
        case .record: "Emitted wherever a job's log is kept: by its coordinator and by its members."
        case .peer: "Emitted by a daemon that takes work."
        case .member: "Emitted by who has accepted a job."
        case .gathering, .rounds, .states, .recovery: "Emitted by who leads a job."
        case .drivers: "These are not emitted by a core, and look the same."
        }
    }
}
