public import Primitives

/// Who decides: the voters of a log, those of before while a change is under way, and learners, who follow and have no voice.
///
/// While both sets of voters are there (Ongaro & Ousterhout 2014, §6: joint consensus), a decision takes a majority of each. So no moment
/// exists at which two disjoint majorities could decide, whichever electors have heard of the change.
public struct Electorate: Hashable, Sendable {
    public static let mostVoters = 7
    public static let mostLearners = 16

    /// Ascending, as all lists here.
    public let voters: [PeerID]
    /// Voters of before, until the change is done; else empty.
    public let outgoing: [PeerID]
    public let learners: [PeerID]

    /// Nil without voters, with too many, or with somebody twice.
    public init?(voters: [PeerID], outgoing: [PeerID] = [], learners: [PeerID] = []) {
        func isList(_ peers: [PeerID], atMost limit: Int) -> Bool {
            peers.count <= limit && Set(peers).count == peers.count
        }
        guard !voters.isEmpty, isList(voters, atMost: Self.mostVoters), isList(outgoing, atMost: Self.mostVoters),
            isList(learners, atMost: Self.mostLearners), Set(voters).isDisjoint(with: learners)
        else { return nil }
        self.voters = voters.sorted()
        self.outgoing = outgoing.sorted()
        self.learners = learners.sorted()
    }

    public var isJoint: Bool { !outgoing.isEmpty }
    public func isVoter(_ peer: PeerID) -> Bool { voters.contains(peer) || outgoing.contains(peer) }
    public func contains(_ peer: PeerID) -> Bool { isVoter(peer) || learners.contains(peer) }
    public var everybody: [PeerID] { Set(voters + outgoing + learners).sorted() }
    public var allVoters: [PeerID] { isJoint ? Set(voters + outgoing).sorted() : voters }

    /// How many of so many decide: any two quorums share somebody. Of four, three: two quorums share two, so that one liar is seen.
    public static func quorum(of count: Int) -> Int { count / 2 + 1 }

    /// Whether those for whom it is true are a quorum of the voters, and of those of before.
    public func decides(_ agrees: (PeerID) -> Bool) -> Bool {
        func decides(_ voters: [PeerID]) -> Bool {
            voters.count(where: agrees) >= Self.quorum(of: voters.count)
        }
        return decides(voters) && (!isJoint || decides(outgoing))
    }

    /// The greatest value that a quorum reaches, of both sets of voters.
    func reached<Value: Comparable>(_ value: (PeerID) -> Value) -> Value {
        func reached(_ voters: [PeerID]) -> Value {
            voters.map(value).sorted(by: >)[Self.quorum(of: voters.count) - 1]
        }
        return isJoint ? min(reached(voters), reached(outgoing)) : reached(voters)
    }

    /// The first step towards other voters: both sets decide. With the same voters, only learners change, in one step.
    public func changing(to voters: [PeerID], learners: [PeerID] = []) -> Electorate? {
        guard !isJoint else { return nil }
        return Electorate(
            voters: voters, outgoing: voters.sorted() == self.voters ? [] : self.voters, learners: learners)
    }
    /// The last step: the new voters decide alone.
    public var changed: Electorate { Electorate(voters: voters, learners: learners)! }

    /// Whether one entry may lead from this to the other.
    public func mayBecome(_ next: Electorate) -> Bool {
        if isJoint { return next == changed }
        return next.isJoint ? next.outgoing == voters && next.voters != voters : next.voters == voters
    }
}
