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

/// Both sides of the question "can I be reached?": the votes on us, and the dials that we owe others.
struct Reachability: Sendable {
    /// Voters of one round.
    static let voters = 3
    /// How long a voter may dial.
    static let dialLimit = Duration.seconds(4)
    static let patience = Duration.seconds(6)
    /// One address is dialled this often at most.
    static let pause = Duration.seconds(60)
    static let pendingLimit = 32

    struct Owed: Sendable {
        let transaction: ArraySlice<UInt8>
        let address: PackedEndpoint
    }
    var port: UInt16 = 0
    var outstanding = 0
    var reached = 0
    var asked = 0
    /// Nonces given to voters in this round, and whether a probe brought them back.
    var nonces: [(voter: PackedEndpoint, nonce: UInt64, arrived: Bool)] = []
    var owed: [DialBack: Owed] = [:]
    var dials: UInt64 = 0
    /// When an address (port 0) was dialled last.
    var recent: [PackedEndpoint: Instant] = [:]
}

extension Overlay {
    /// Asks up to three proven contacts, bootstrap nodes among them, to dial us at the address they see: on TCP at `port`,
    /// on UDP where our datagrams come from.
    /// Ends in one ``Effect/reachability(reached:asked:)``; nobody to ask gives 0 of 0. A majority that failed makes the node
    /// read-only, a majority that succeeded ends that.
    public mutating func checkReachability(port: UInt16, at now: Instant) {
        guard outlook.reachability.outstanding == 0, seal != nil else { return }
        outlook.reachability.nonces = []
        var known = tables.flatMap { $0.entries.filter { $0.lastAnswer != nil && $0.failures == 0 }.map(\.contact) }
        generator.shuffle(&known)
        var voters: [PackedContact] = []
        for contact in known where voters.count < Reachability.voters {
            // Two voters behind one router have one opinion.
            let crowded = voters.contains { $0.address.prefix == contact.address.prefix }
            if contact.address.isPrivate || !crowded { voters.append(contact) }
        }
        (outlook.reachability.port, outlook.reachability.reached, outlook.reachability.asked) = (port, 0, 0)
        outlook.reachability.outstanding = voters.count
        guard !voters.isEmpty else { return effects.push(.reachability(reached: 0, asked: 0)) }
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
        outlook.reachability.nonces.append((transaction.address, nonce, false))
        ask(
            .reach(port: outlook.reachability.port, token: token, nonce: nonce), transaction.address,
            id: transaction.id,
            for: .reach, at: now)
    }

    /// A datagram from a socket that we never wrote to: nothing before us keeps strangers out.
    mutating func probed(_ nonce: UInt64) {
        guard let index = outlook.reachability.nonces.firstIndex(where: { $0.nonce == nonce }) else {
            counters.stray += 1
            return
        }
        outlook.reachability.nonces[index].arrived = true
    }

    /// - Parameter reached: whether the voter's TCP dial arrived; nil when the voter did not vote.
    mutating func reachVoted(_ reached: Bool?, by voter: PackedEndpoint) {
        guard outlook.reachability.outstanding > 0 else { return }
        outlook.reachability.outstanding -= 1
        if let reached {
            outlook.reachability.asked += 1
            let probe = outlook.reachability.nonces.first { $0.voter == voter }
            if reached, probe?.arrived ?? false { outlook.reachability.reached += 1 }
        }
        guard outlook.reachability.outstanding == 0 else { return }
        if outlook.reachability.asked > 0, !configuration.readOnly {
            isReadOnly = outlook.reachability.reached * 2 <= outlook.reachability.asked
        }
        effects.push(.reachability(reached: outlook.reachability.reached, asked: outlook.reachability.asked))
    }

    /// Dials back only where the token says that the asker can hear us, only to the address it came from, once a minute.
    mutating func serveReach(
        _ port: UInt16, _ token: ArraySlice<UInt8>, _ nonce: UInt64, _ sender: NodeID, _ message: KRPCMessage,
        _ address: PackedEndpoint, at now: Instant
    ) throws(KRPCError) {
        guard seal != nil else { throw .unknownMethod }
        guard kept.tokens.accepts(token, for: sender, from: address) else { throw .badToken }
        outlook.reachability.recent = outlook.reachability.recent.filter { now - $0.value < Reachability.pause }
        let who = address.isPrivate ? address : address.with(port: 0)
        guard outlook.reachability.recent[who] == nil, outlook.reachability.owed.count < Reachability.pendingLimit,
            outlook.reachability.recent.count < 1024
        else { throw .server }
        outlook.reachability.recent[who] = now
        outlook.reachability.dials += 1
        let dial = DialBack(number: outlook.reachability.dials)
        outlook.reachability.owed[dial] = .init(transaction: message.transaction, address: address)
        counters.queriesAnswered += 1
        deadlines.push(.dialBack(dial), at: now + Reachability.dialLimit)
        var probe = KRPCMessage(
            transaction: Self.bytes(of: secrets.next()),
            body: .query(KRPCQuery(sender: nodeID, method: .probe(nonce: nonce))))
        // The socket it comes from is nobody to remember.
        probe.isReadOnly = true
        let datagram = DatagramProbe(endpoint: address.endpoint, bytes: probe.encoded(pool: seal))
        effects.push(.dialBack(dial, address.with(port: port).endpoint, datagram: datagram))
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
