import Channels
public import Coordination
public import Membership
public import Primitives
public import Record
public import Wire

extension DaemonCore {
    /// What a daemon does in jobs: any of these at once, or none.
    public struct Services: Sendable {
        /// Behind references: they are large, and changed in place.
        var memberPart: Indirect<Member>?
        var coordinatorPart: Indirect<Coordinator>?
        var electorPart: Indirect<ElectorDesk>?
        var refoundingPart: Indirect<Refounding>?
        var watchPart: Indirect<JobWatch>?
        let foundation: Foundation?
        /// It is there for others to meet, and does nothing in jobs: it publishes nothing about itself.
        public let isServer: Bool
        /// It is there for others to meet, whether it carries jobs' records or not: it can be dialled as long as nobody has tried in vain, because
        /// with none nobody could begin.
        let isNode: Bool
        /// Of a job that this daemon may have to lead.
        let options: CoordinatorOptions
        /// What a job that is founded anew goes on with.
        public struct Foundation: Sendable {
            public var refounding: Refounding
            public var provisions: ElectorDesk.Provisions
            /// Of the rounds that this machine knows.
            public var receipts: [PBEnvelope]
            public var parse: Record.Parser
            public init(
                _ refounding: Refounding, _ provisions: ElectorDesk.Provisions, receipts: [PBEnvelope],
                parse: @escaping Record.Parser
            ) {
                self.refounding = refounding
                self.provisions = provisions
                self.receipts = receipts
                self.parse = parse
            }
        }
        public init(
            member: Member? = nil, coordinator: Coordinator? = nil, elector: ElectorDesk? = nil,
            foundation: Foundation? = nil, watch: JobWatch? = nil, options: CoordinatorOptions = CoordinatorOptions()
        ) {
            self.options = options
            self.foundation = foundation
            refoundingPart = foundation.map { Indirect($0.refounding) }
            watchPart = watch.map { Indirect($0) }
            memberPart = member.map { Indirect($0) }
            coordinatorPart = coordinator.map { Indirect($0) }
            electorPart = elector.map { Indirect($0) }
            isNode =
                member.map { !$0.terms.computes }
                ?? (coordinator == nil && elector == nil && foundation == nil && watch == nil)
            isServer =
                member == nil && coordinator == nil && elector == nil && foundation == nil && watch == nil
        }
        public var member: Member? { memberPart?.value }
        public var coordinator: Coordinator? { coordinatorPart?.value }
        public var elector: ElectorDesk? { electorPart?.value }
        public var watch: JobWatch? { watchPart?.value }
        /// As a peer calls itself in the job that is done here.
        func name(of peer: PeerID) -> String? { member?.name(of: peer) ?? coordinator?.roster[peer]?.name }
        /// It launches jobs, or may have to lead one: it looks for members.
        var leads: Bool { coordinatorPart != nil || electorPart != nil || refoundingPart != nil }

        /// Whether a peer is a member of a job in which this daemon is, leads it, or carries its record, too; or has what is collected here.
        /// Changes nothing: who may be changed is asked where it lies, not copied.
        mutating func sharesJob(with peer: PeerID) -> Bool {
            coordinatorPart?.value.roster.isJoined(peer) == true
                || memberPart?.value.sharesJob(with: peer) == true
                || electorPart?.value.isElector(peer) == true
                || watchPart?.value.collects(from: peer) == true
        }
    }

    /// What the owner of a peer wants of it, or a limit that the owner set.
    public mutating func heedOwner(_ wish: OwnersWish, at now: Instant) {
        if wish.ends { handOverLead(at: now) }
        services.memberPart?.value.heedOwner(wish, at: now)
        drain(at: now)
    }
    /// Somebody looks at the job that is led here.
    public mutating func watchSteps(at now: Instant) { services.coordinatorPart?.value.watchSteps(at: now) }
    /// Whether the peer computes nothing, and stays until others have what it holds.
    public var isMemberYielding: Bool { services.memberPart?.value.isYieldingByOwner ?? false }
    /// Whoever leads a job and is to rest hands it over first, where another elector is there. It goes on carrying the record.
    private mutating func handOverLead(at now: Instant) {
        guard services.memberPart != nil, services.electorPart?.value.leading != nil else { return }
        services.electorPart!.value.handOver(at: now)
    }

    /// A member that has no job, or no connection to its leader, or to one that leads no more.
    var missesCoordinator: Bool {
        guard let member = services.memberPart?.value else { return false }
        guard let leader = member.leader, member.isWorking else { return true }
        return !channels.isConnected(to: leader)
    }
}
