/// How much it matters to whoever reads a log. Each kind of event has one level, whatever it carries (``Happening/Name/level``).
public enum LogLevel: Int, CaseIterable, Comparable, Hashable, Sendable {
    /// Something is wrong that does not mend itself: a disk that refuses, a record that contradicts itself, a job that ends.
    case error
    /// Something went otherwise than it should, and was dealt with: somebody lost, a limit that cannot be seen, a round taken back.
    case warning
    /// What its owner wants to know.
    case info
    /// What machines and whoever looks for a fault read: each step of it, and what strangers send.
    case debug

    public init?(_ word: String) {
        guard let level = Self.allCases.first(where: { $0.word == word }) else { return nil }
        self = level
    }

    public var word: String {
        switch self {
        case .error: "error"
        case .warning: "warning"
        case .info: "info"
        case .debug: "debug"
        }
    }

    /// Of syslog (RFC 5424 §6.2.1), as sd-daemon(3) has it in `<N>` before a line.
    public var priority: Int {
        switch self {
        case .error: 3
        case .warning: 4
        case .info: 6
        case .debug: 7
        }
    }

    public static func < (a: LogLevel, b: LogLevel) -> Bool { a.rawValue < b.rawValue }
}

extension Event {
    public var level: LogLevel { what.name.level }
}

extension Happening.Name {
    /// A new case is asked for here by the compiler. What others can cause as often as they like is for `debug`, or bounded where it is emitted.
    public var level: LogLevel {
        switch self {
        case .entryRefused, .forked, .electorsContradict, .storageFailed, .diverged, .workImpossible:
            .error
        case .bootstrapRetrying, .overlayIsolated, .portClosed, .floodLimited, .refoundingRefused, .limitUnseen,
            .usageUnread, .processorTaken, .placementRefused, .stateWrong, .momentsInexact, .roomShort,
            .roundStartFailed, .copyFailed,
            .roundStartRefused, .contributionUnusable, .contributionRefused, .workRefused, .workPaused, .peerUnfit,
            .peerDeclined, .waitingFor, .aggregatesDiffer, .ownerRefuted, .auditDiffers, .receiptRefused,
            .receiptContradicts, .weightsDiffer, .weightsDisputed, .stateRefused, .peerLost, .rolledBack, .interrupted,
            .stateUnread, .stateUnsaved, .logDamaged, .descriptorsScarce, .controlClosed, .checkpointFailed:
            .warning
        case .overlayJoined, .externalAddress, .reachability, .connectionRefused, .networkChanged,
            .connectionInterrupted, .connectionResumed, .connectionLost, .connectionRelayed, .connectionPunched,
            .berthGranted, .berthLost, .portOpened, .memberJoined, .memberRemoved, .membershipRenewed, .inviteRevoked,
            .poolKeyChanged:
            .info
        case .leaderChanged, .electorsChosen, .leadershipTaken, .recordCarried, .recordFound, .jobRefounded,
            .launcherAwaited, .storageRecovered:
            .info
        case .speedMeasured, .jobAccepted, .offerDeclined, .jobReleased, .ownerPaused, .ownerResumed, .ownerLeaves,
            .workHeld, .workDraining, .workHandedOver, .workTakenUp, .limitChanged, .processorBack, .textComplete,
            .peerLeft, .rejoined,
            .planReceived, .stateRequested, .stateUnavailable, .stateReady, .roundRewound:
            .info
        case .jobOpened, .jobResumed, .waitingForPeers, .peerFound, .peerJoined, .sharingText, .measuringLinks,
            .linksMeasured, .planned, .exchangeChosen, .pairRelayed, .placed, .planRefused, .roundSealed, .speedChanged,
            .exchangeRegrouped, .checkpointSaved, .collectingWeights, .replaced, .othersGoOn, .pipelineRestarted,
            .replanned,
            .supplyChosen, .trainingResumed, .resumed:
            .info
        case .descriptorsBack, .controlRestored, .listening, .evaluating, .evaluationProgress, .checkpointStored,
            .peerKilled, .fault:
            .info
        case .strangersTurnedAway, .connectionMade, .packetMalformed, .logEntryRefused, .staleCommand, .notEntitled,
            .rehearsed,
            .contentRefused, .chunkRefused, .roundStartFound, .roundStartStored, .roundStartRead, .copyFound,
            .copyStored, .copySkipped, .sealIncompleteHere, .contributionMalformed, .payloadCorrupt, .roundCounted,
            .unreachable, .planning,
            .auditUnanswered, .statesAgreed, .collectionProgress, .stateMalformed, .status:
            .debug
        }
    }
}
