public import Coordination
public import Membership
public import Primitives

extension DaemonCore {
    /// What a daemon does in jobs: any of these at once, or none.
    public struct Services: Sendable {
        /// Behind references: they are large, and changed in place.
        var memberPart: Indirect<Member>?
        var coordinatorPart: Indirect<Coordinator>?
        var electorPart: Indirect<ElectorDesk>?
        /// It is there for others to meet, and publishes nothing about itself.
        public let isServer: Bool
        /// Of a job that this daemon may have to lead.
        let options: CoordinatorOptions
        public init(
            member: Member? = nil, coordinator: Coordinator? = nil, elector: ElectorDesk? = nil,
            options: CoordinatorOptions = CoordinatorOptions()
        ) {
            self.options = options
            memberPart = member.map { Indirect($0) }
            coordinatorPart = coordinator.map { Indirect($0) }
            electorPart = elector.map { Indirect($0) }
            isServer = member == nil && coordinator == nil && elector == nil
        }
        public var member: Member? { memberPart?.value }
        public var coordinator: Coordinator? { coordinatorPart?.value }
        public var elector: ElectorDesk? { electorPart?.value }
        /// It launches jobs, or may have to lead one: it looks for members.
        var leads: Bool { coordinatorPart != nil || electorPart != nil }

        /// Whether a peer is a member of a job in which this daemon is, leads it, or carries its record, too.
        /// Changes nothing: who may be changed is asked where it lies, not copied.
        mutating func sharesJob(with peer: PeerID) -> Bool {
            coordinatorPart?.value.roster.isJoined(peer) == true
                || memberPart?.value.sharesJob(with: peer) == true
                || electorPart?.value.isElector(peer) == true
        }
    }

    /// The owner of a peer wants the machine for something else, or no more.
    public mutating func pauseMember(_ isPaused: Bool, at now: Instant) {
        if isPaused {
            services.memberPart?.value.pauseByOwner(at: now)
        } else {
            services.memberPart?.value.resumeByOwner(at: now)
        }
        drain(at: now)
    }
}
