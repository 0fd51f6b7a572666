public import Messages
public import Primitives
public import Record
public import Telemetry
public import Training
public import Wire

/// What a coordinator asks of its driver.
public enum CoordinatorEffect: Sendable {
    case send(Packet, to: PeerID)
    /// Write, and answer with ``Coordinator/stored(_:_:at:)``.
    indirect case store(StorageRequest)
    indirect case event(Event)
    /// This elector shall lead from now on, if it can.
    case handOver(to: PeerID)
    /// Give them the log, and say who has it (``Coordinator/caughtUp(_:at:)``): they are to be electors.
    case prepare([PeerID])
    /// Search for a plan, slowly, and hand it back with ``Coordinator/planned(_:at:)``.
    indirect case plan(PlanQuestion)
    /// The job ended, with the final parameters if it succeeded.
    case ended(JobEnd)
}

public enum JobEnd: Hashable, Sendable {
    case finished([UnitState])
    /// What went wrong and what to try.
    case failed(String)
}

public struct CoordinatorOptions: Sendable {
    /// Begin when this many have accepted; nil: when nobody new has come for ``quiet``.
    public var expectedPeers: Int?
    /// Fewer than these the job's shape cannot do with.
    public var neededPeers = 1
    public var quiet: Duration = .seconds(3)
    /// Give up when too few peers came in this time.
    public var gatherLimit: Duration = .seconds(120)
    public var lease: Duration = .seconds(15)
    /// Nothing heard of a member for this long: it is lost. A closed connection is noticed sooner.
    public var silence: Duration = .seconds(5)
    /// A member that makes no progress with the text for this long is not waited for.
    public var textPatience: Duration = .seconds(30)
    /// Longest burst of a survey of the links.
    public var probeBytes = 2 << 20
    /// Share of the rounds with owners in which one chunk is added up by others too.
    public var auditShare = 0.25
    /// How long a leader that did not launch the job waits for whoever did, before it collects the result itself. As long as members keep
    /// what they hold.
    public var launcherPatience: Duration = .seconds(3600)
    /// Where states are put down that are collected; nil for memory.
    public var room: (any ByteRoom)?
    public init() {}
}
