public import Primitives

/// What relays and those whom they carry say to each other, as messages of the sessions that they have anyway.
///
/// A *circuit* goes from one peer through a relay to another. It has two *legs*, one in each of the relay's two sessions; numbers name legs.
public enum CarriageMessage: Hashable, Sendable {
    /// To a relay: a berth is wanted, or wanted for longer. `leads`: the sender looks for members of a job.
    case reserve(leads: Bool)
    /// A relay's answer.
    case terms(BerthTerms)
    /// To a relay: the berth is free.
    case release
    /// A relay to all that it is connected with: everybody whom it carries now, and how fast.
    case carried([CarriedPeer], rate: BitRate)
    /// To a relay: a circuit to somebody who has a berth there.
    case open(leg: UInt32, to: PeerID)
    /// A relay to an end: somebody wants to reach it, who is seen there.
    case incoming(leg: UInt32, from: PeerID, at: Endpoint)
    /// A relay to whoever opened the circuit: the other end is told, and seen there.
    case opened(leg: UInt32, at: Endpoint)
    case data(leg: UInt32, [UInt8])
    /// So many bytes more may be sent: the other end has taken as many.
    case credit(leg: UInt32, bytes: Int)
    case closed(leg: UInt32, CircuitEnd)
    /// Between the ends of a session: where the sender may be dialled, if it may.
    case ways([Endpoint])
    /// To an introducer, without endpoints: somebody is to be met, or may be. From it, with endpoints: somebody wants to be met there.
    case meet(Meeting)
    /// To an introducer: this side will dial when it is told to.
    case ready(PeerID, number: UInt32)
    /// From an introducer: both are ready, dial now.
    case go(PeerID, number: UInt32)
    /// Either way: nothing comes of the meeting.
    case unmet(PeerID, number: UInt32, UnmetReason)

    public static let mostCarried = 128
    public static let mostWays = 4
    /// Of one message.
    public static let dataBytes = 16_384
}

/// Somebody who has a berth.
public struct CarriedPeer: Hashable, Sendable {
    public var peer: PeerID
    public var leads: Bool
    public init(_ peer: PeerID, leads: Bool) {
        self.peer = peer
        self.leads = leads
    }
}

/// What a relay offers, or why it does not.
public struct BerthTerms: Hashable, Sendable {
    public enum Answer: UInt8, CaseIterable, Hashable, Sendable {
        case granted = 0
        /// It carries nobody: its owner does not want to, or it cannot be reached itself.
        case notHere = 1
        /// All berths are taken.
        case full = 2
        /// It has carried what its owner allows in a day.
        case spent = 3
    }
    public var answer: Answer
    /// How long the berth is kept.
    public var life: Duration
    /// Of all that it carries together.
    public var rate: BitRate
    /// What it may still carry today.
    public var left: ByteCount
    /// At a time.
    public var circuits: Int
    /// Where the relay sees whoever asked; nil where it was the relay that dialled.
    public var seen: Endpoint?
    public init(
        _ answer: Answer, life: Duration = .zero, rate: BitRate, left: ByteCount, circuits: Int, seen: Endpoint? = nil
    ) {
        self.seen = seen
        self.answer = answer
        self.life = life
        self.rate = rate
        self.left = left
        self.circuits = circuits
    }
}

/// Why a circuit is no more, or never was.
public enum CircuitEnd: UInt8, CaseIterable, Hashable, Sendable, CustomStringConvertible {
    case done = 0
    /// The other end has no berth there.
    case nobody = 1
    /// The relay carries as many circuits as it may, or was asked too often.
    case full = 2
    /// The relay has carried what its owner allows in a day.
    case spent = 3
    /// Somebody broke the rules of circuits.
    case broken = 4
    /// The other end has left the relay.
    case gone = 5
    /// The other end does not want it.
    case refused = 6

    public var description: String {
        switch self {
        case .done: "the other end closed it"
        case .nobody: "the relay does not carry that peer"
        case .full: "the relay carries no more"
        case .spent: "the relay has carried enough for today"
        case .broken: "the rules of circuits were broken"
        case .gone: "the other end has left the relay"
        case .refused: "the other end does not want it"
        }
    }
}

/// Numbers of legs: who gave one, and as what, follows from it, so that two daemons that relay for each other never mean two things.
enum LegNumber {
    /// - Parameter count: of those given before.
    static func next(_ count: UInt32, asRelay: Bool, local: PeerID, peer: PeerID) -> UInt32 {
        count &* 4 | (asRelay ? 2 : 0) | (local < peer ? 0 : 1)
    }
    private static func isOwn(_ leg: UInt32, _ local: PeerID, _ peer: PeerID) -> Bool {
        (leg & 1 == 0) == (local < peer)
    }
    /// Whether this side is the relay of a leg.
    static func isCarriedHere(_ leg: UInt32, local: PeerID, peer: PeerID) -> Bool {
        isOwn(leg, local, peer) == (leg & 2 != 0)
    }
    /// Whether the other side may give this number, as a relay or as an end.
    static func isOthers(_ leg: UInt32, asRelay: Bool, local: PeerID, peer: PeerID) -> Bool {
        !isOwn(leg, local, peer) && (leg & 2 != 0) == asRelay
    }
}
