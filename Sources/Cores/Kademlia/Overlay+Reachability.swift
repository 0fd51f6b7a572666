public import Primitives

/// Names one request to dial somebody back.
public struct DialBack: Hashable, Sendable {
    let number: UInt64
}

/// The UDP half of a dial-back: the asker's UDP endpoint, and what to send there.
public struct DatagramProbe: Sendable {
    public let endpoint: Endpoint
    public let bytes: [UInt8]
}

/// How a vote on whether a node can be reached went.
public struct ReachVotes: Hashable, Sendable {
    /// Those who tried.
    public var asked = 0
    /// Of them, those whose TCP dial arrived, whatever became of the datagram.
    public var dialled = 0
    /// Those whose dial and datagram arrived, and who are strangers.
    public var reached = 0
    /// The same of those who are none: this machine had written to where they are, and a router may have let them in because of that. They say
    /// nothing about others.
    public var acquainted = 0
    /// There were none but those, and what they say counts for now: strangers may be there in a moment.
    public var isProvisional = false
    public init() {}
    /// Votes that say something about strangers.
    public var counted: Int { asked - acquainted }
}

/// Both sides of the question "can I be reached?": the votes on us, and the dials that we owe others.
struct Reachability: Sendable {
    /// Voters of one round.
    static let voters = 3
    /// How long a voter may dial.
    static let dialLimit = Duration.seconds(4)
    static let patience = Duration.seconds(9)
    /// How long another may take that dials for a voter.
    static let helpLimit = Duration.seconds(5)
    /// One port of an address is dialled once in this time at most, and as often for others; all of one address, behind which several homes may be, so often.
    static let pause = Duration.seconds(60)
    static let dialsOfAddress = 4
    static let pendingLimit = 32

    struct Owed: Sendable {
        let transaction: ArraySlice<UInt8>
        /// Who asked.
        let address: PackedEndpoint
        let port: UInt16
        let nonce: UInt64
        /// Whether this node dials itself.
        var isOut = false
        /// Under which ID another was asked for a token, which is good for that one only.
        var askedAs: NodeID?
    }
    var port: UInt16 = 0
    var outstanding = 0
    var votes = ReachVotes()
    var verdict = ReachVerdict()
    /// A router stands in front of this machine, for all that is known: whom it lets in may depend on whom was written to.
    var isTranslated = true
    /// Nonces given to voters in this round, whether a probe brought them back, and whether it came from where this machine had written to.
    var nonces: [(voter: PackedEndpoint, nonce: UInt64, arrived: Bool, isAcquainted: Bool)] = []
    /// Rounds in a row in which nobody could vote but those whom this machine had written to.
    var roundsAmongAcquaintances = 0
    var owed: [DialBack: Owed] = [:]
    var dials: UInt64 = 0
    /// When somebody asked last, by where its datagrams come from, and when that was dialled for another last.
    var recent: [PackedEndpoint: Instant] = [:]
    var helped: [PackedEndpoint: Instant] = [:]

    /// Of this round. Where there is nobody else, those whom this machine knows are all who could dial it, and what they say counts.
    mutating func tally() -> ReachVotes {
        guard votes.counted == 0, votes.acquainted > 0 else {
            roundsAmongAcquaintances = 0
            return votes
        }
        roundsAmongAcquaintances += 1
        votes.isProvisional = roundsAmongAcquaintances == 1
        (votes.reached, votes.acquainted) = (votes.acquainted, 0)
        return votes
    }
    /// Whether somebody may be dialled: once a minute, and a few of one address. It is noted.
    static func allows(
        _ endpoint: PackedEndpoint, _ recent: inout [PackedEndpoint: Instant], at now: Instant
    ) -> Bool {
        recent = recent.filter { now - $0.value < pause }
        guard recent[endpoint] == nil, recent.count < 1024 else { return false }
        let address = endpoint.with(port: 0)
        let others = endpoint.isPrivate ? 0 : recent.keys.count { $0.with(port: 0) == address }
        guard others < dialsOfAddress else { return false }
        recent[endpoint] = now
        return true
    }
}

extension Overlay {
    /// Votes are under way: another question would be refused.
    public var isBeingReached: Bool { outlook.reachability.outstanding > 0 }
    /// Asks up to three proven contacts, bootstrap nodes among them, to dial us at the address they see: on TCP at `port`,
    /// on UDP where our datagrams come from.
    /// Ends in one ``Effect/reachability(_:)``; nobody to ask gives 0 of 0. A majority that failed makes the node
    /// read-only, a majority that succeeded ends that; one vote alone against it has to be said twice (``ReachVerdict``).
    ///
    /// - Parameter isTranslated: this machine is known outside by an address that is not its own: then only those count who came in from where it
    ///   had not written to.
    public mutating func checkReachability(port: UInt16, isTranslated: Bool, at now: Instant) {
        guard outlook.reachability.outstanding == 0, seal != nil else { return }
        outlook.reachability.isTranslated = isTranslated
        outlook.reachability.nonces = []
        var known = tables.flatMap { $0.entries.filter { $0.lastAnswer != nil && $0.failures == 0 }.map(\.contact) }
        generator.shuffle(&known)
        var voters: [PackedContact] = []
        for contact in known where voters.count < Reachability.voters {
            // Two voters behind one router have one opinion.
            let crowded = voters.contains { $0.address.prefix == contact.address.prefix }
            if contact.address.isPrivate || !crowded { voters.append(contact) }
        }
        (outlook.reachability.port, outlook.reachability.votes) = (port, ReachVotes())
        outlook.reachability.outstanding = voters.count
        guard !voters.isEmpty else { return effects.push(.reachability(ReachVotes())) }
        for voter in voters {
            ask(.getPeers(infoHash: nodeID), voter.address, id: voter.id, for: .reachToken, at: now)
        }
    }

    mutating func reachTokenAnswered(_ token: ArraySlice<UInt8>?, by transaction: Transaction, at now: Instant) {
        guard let token, !transaction.isLate else {
            if !transaction.isLate { reachVoted(nil, by: transaction.address) }
            return
        }
        let nonce = UInt64(secrets.next()) << 32 | UInt64(secrets.next())
        outlook.reachability.nonces.append((transaction.address, nonce, false, false))
        ask(
            .reach(port: outlook.reachability.port, token: token, nonce: nonce), transaction.address,
            id: transaction.id,
            for: .reach, at: now)
    }

    /// A datagram from a socket that we never wrote to: nothing before us keeps strangers out.
    mutating func probed(_ nonce: UInt64, from sender: PackedEndpoint, at now: Instant) {
        guard let index = outlook.reachability.nonces.firstIndex(where: { $0.nonce == nonce }) else {
            counters.stray += 1
            return
        }
        outlook.reachability.nonces[index].arrived = true
        outlook.reachability.nonces[index].isAcquainted =
            outlook.reachability.isTranslated && outlook.correspondents.knows(sender, at: now)
    }

    /// - Parameter reached: whether the voter's TCP dial arrived; nil when the voter did not vote.
    mutating func reachVoted(_ reached: Bool?, by voter: PackedEndpoint) {
        guard outlook.reachability.outstanding > 0 else { return }
        outlook.reachability.outstanding -= 1
        if let reached {
            outlook.reachability.votes.asked += 1
            let probe = outlook.reachability.nonces.first { $0.voter == voter }
            if reached { outlook.reachability.votes.dialled += 1 }
            if reached, let probe, probe.arrived {
                if probe.isAcquainted {
                    outlook.reachability.votes.acquainted += 1
                } else {
                    outlook.reachability.votes.reached += 1
                }
            }
        }
        guard outlook.reachability.outstanding == 0 else { return }
        let votes = outlook.reachability.tally()
        if votes.counted > 0, !configuration.readOnly {
            let isReached = outlook.reachability.verdict.heard(
                reached: votes.reached, asked: votes.counted, isReachable: !isReadOnly)
            if let isReached { isReadOnly = !isReached }
        }
        effects.push(.reachability(votes))
    }

    /// Has the asker dialled only where the token says that it can hear us, only at the address it came from, once a minute (four of one address): by another node
    /// where there is one, since the asker's router may let us in only because it has just written to us.
    mutating func serveReach(
        _ port: UInt16, _ token: ArraySlice<UInt8>, _ nonce: UInt64, _ sender: NodeID, _ message: KRPCMessage,
        _ address: PackedEndpoint, at now: Instant
    ) throws(KRPCError) {
        guard seal != nil else { throw .unknownMethod }
        guard kept.tokens.accepts(token, for: sender, from: address) else { throw .badToken }
        guard outlook.reachability.owed.count < Reachability.pendingLimit,
            Reachability.allows(address, &outlook.reachability.recent, at: now)
        else { throw .server }
        let dial = owe(message, address, port, nonce)
        guard let helper = helper(for: address, at: now) else { return dialMyself(dial, at: now) }
        askForHelp(dial, helper.address, helper.id, at: now)
    }
    private mutating func askForHelp(_ dial: DialBack, _ helper: PackedEndpoint, _ id: NodeID?, at now: Instant) {
        outlook.reachability.owed[dial]?.askedAs = nodeID
        ask(.getPeers(infoHash: nodeID), helper, id: id, for: .helpToken(dial), at: now)
    }
    /// Dials somebody back for another node of this pool, once a minute for one address. Nobody from outside has us dial into a private network.
    mutating func serveDial(
        _ target: ArraySlice<UInt8>, _ port: UInt16, _ token: ArraySlice<UInt8>, _ nonce: UInt64, _ sender: NodeID,
        _ message: KRPCMessage, _ address: PackedEndpoint, at now: Instant
    ) throws(KRPCError) {
        guard seal != nil else { throw .unknownMethod }
        guard kept.tokens.accepts(token, for: sender, from: address) else { throw .badToken }
        guard let target = PackedEndpoint(compact: target), target.isUsable, address.isPrivate || !target.isPrivate,
            !bootstrap.myself.contains(target)
        else { throw .protocolError("for is no address to dial") }
        guard outlook.reachability.owed.count < Reachability.pendingLimit,
            Reachability.allows(target, &outlook.reachability.helped, at: now)
        else { throw .server }
        dialOut(owe(message, address, port, nonce), target, at: now)
    }
    private mutating func owe(
        _ message: KRPCMessage, _ address: PackedEndpoint, _ port: UInt16, _ nonce: UInt64
    ) -> DialBack {
        outlook.reachability.dials += 1
        let dial = DialBack(number: outlook.reachability.dials)
        outlook.reachability.owed[dial] = .init(
            transaction: message.transaction, address: address, port: port, nonce: nonce)
        counters.queriesAnswered += 1
        return dial
    }
    /// Somebody who is somewhere else: a read-only node, which has hardly ever been written to, or a proven contact.
    private mutating func helper(for address: PackedEndpoint, at now: Instant) -> PackedContact? {
        let strangers = outlook.askers.elsewhere(than: address, at: now)
        if !strangers.isEmpty { return strangers[generator.below(strangers.count)] }
        let others = tables[address.family.rawValue].entries.filter { entry in
            let other = entry.contact.address
            return entry.lastAnswer != nil && entry.failures == 0 && other != address
                && (address.isPrivate || !other.isPrivate && other.prefix != address.prefix)
        }
        return others.isEmpty ? nil : others[generator.below(others.count)].contact
    }

    mutating func helpTokenAnswered(
        _ token: ArraySlice<UInt8>?, _ dial: DialBack, by transaction: Transaction, at now: Instant
    ) {
        guard !transaction.isLate, let owed = outlook.reachability.owed[dial], !owed.isOut else { return }
        guard let token else { return dialMyself(dial, at: now) }
        // A node that has just heard where it is seen has another ID now (BEP 42).
        guard owed.askedAs == nodeID else { return askForHelp(dial, transaction.address, transaction.id, at: now) }
        ask(
            .dial(owed.address.compact[...], port: owed.port, token: token, nonce: owed.nonce), transaction.address,
            id: transaction.id, for: .help(dial), at: now)
    }
    /// - Parameter reached: nil when the other one did not dial.
    mutating func helped(_ dial: DialBack, reached: Bool?, _ transaction: Transaction, at now: Instant) {
        guard !transaction.isLate, outlook.reachability.owed[dial]?.isOut == false else { return }
        if let reached { dialledBack(dial, reached: reached, at: now) } else { dialMyself(dial, at: now) }
    }
    mutating func dialMyself(_ dial: DialBack, at now: Instant) {
        guard let owed = outlook.reachability.owed[dial], !owed.isOut else { return }
        dialOut(dial, owed.address, at: now)
    }
    private mutating func dialOut(_ dial: DialBack, _ target: PackedEndpoint, at now: Instant) {
        guard let owed = outlook.reachability.owed[dial] else { return }
        outlook.reachability.owed[dial]!.isOut = true
        deadlines.push(.dialBack(dial), at: now + Reachability.dialLimit)
        var probe = KRPCMessage(
            transaction: Self.bytes(of: secrets.next()),
            body: .query(KRPCQuery(sender: nodeID, method: .probe(nonce: owed.nonce))))
        // The socket it comes from is nobody to remember.
        probe.isReadOnly = true
        let datagram = DatagramProbe(endpoint: target.endpoint, bytes: probe.encoded(pool: seal))
        effects.push(.dialBack(dial, target.with(port: owed.port).endpoint, datagram: datagram))
    }

    /// What came of a ``Effect/dialBack(_:_:)``. Without an answer within four seconds the asker is told that it failed.
    public mutating func dialledBack(_ dial: DialBack, reached: Bool, at now: Instant) {
        guard let owed = outlook.reachability.owed.removeValue(forKey: dial) else { return }
        var answer = KRPCAnswer(sender: nodeID)
        answer.reached = reached
        var reply = KRPCMessage(transaction: owed.transaction, body: .answer(answer))
        reply.observed = owed.address.compact[...]
        send(reply, to: owed.address)
    }
}
