import Primitives
import Wire

/// The citizen: what others ask of this node.
extension Overlay {
    mutating func answer(
        _ query: KRPCQuery, _ message: KRPCMessage, size: Int, from address: PackedEndpoint, at now: Instant
    ) {
        guard query.sender != nodeID || !bootstrap.myself.contains(address) else {
            return answerMyself(message, to: address)
        }
        if case .probe(let nonce) = query.method, seal != nil { return probed(nonce, from: address, at: now) }
        guard !isReadOnly || helps(query, message, address, at: now) else {
            counters.queriesUnserved += 1
            declineVote(query, message, address, at: now)
            return
        }
        guard budgets.allowsQuery(from: address, at: now) else {
            counters.flooded += 1
            return
        }
        do throws(KRPCError) {
            var answer = KRPCAnswer(sender: nodeID)
            if case .reach(let port, let token, let nonce) = query.method {
                try serveReach(port, token, nonce, query.sender, message, address, at: now)
                return
            }
            if case .dial(let target, let port, let token, let nonce) = query.method {
                try serveDial(target, port, token, nonce, query.sender, message, address, at: now)
                return
            }
            try fill(&answer, for: query, from: address, at: now)
            counters.queriesAnswered += 1
            reply(answer, to: message, querySize: size, sender: query.sender, address, at: now)
        } catch {
            // A read-only node comes here with those whom it helps: they would wait for it.
            if isReadOnly { say(error, message, to: address) } else { refuse(error, message, from: address, at: now) }
        }
        // A node that may be asked (BEP 43) and belongs to this pool.
        let belongs = seal != nil || !message.isSealed
        if message.isReadOnly, message.isSealed {
            outlook.askers.note(PackedContact(id: query.sender, address: address), at: now)
        }
        if !message.isReadOnly, belongs { consider(PackedContact(id: query.sender, address: address), at: now) }
    }

    /// A read-only node answers nobody (BEP 43) but those of its pool whom it has itself asked something, and them only what they need to have it dial
    /// somebody back: whoever wants to know whether strangers get in has never written to it.
    private func helps(
        _ query: KRPCQuery, _ message: KRPCMessage, _ address: PackedEndpoint, at now: Instant
    ) -> Bool {
        guard seal != nil, message.isSealed, outlook.correspondents.knows(address, at: now) else { return false }
        switch query.method {
        case .getPeers(let infoHash): return infoHash == query.sender
        case .dial: return true
        default: return false
        }
    }

    /// Who was given a token here may take this node for a voter, and would wait for it as long as a dial takes.
    private mutating func declineVote(
        _ query: KRPCQuery, _ message: KRPCMessage, _ address: PackedEndpoint, at now: Instant
    ) {
        guard case .reach = query.method, seal != nil, message.isSealed,
            outlook.correspondents.knows(address, at: now)
        else { return }
        say(.server, message, to: address)
    }
    private mutating func say(_ error: KRPCError, _ message: KRPCMessage, to address: PackedEndpoint) {
        var reply = KRPCMessage(transaction: message.transaction, body: .error(error))
        reply.observed = address.compact[...]
        send(reply, to: address)
    }

    /// Asking ourselves is how we learn that an address is ours.
    private mutating func answerMyself(_ message: KRPCMessage, to address: PackedEndpoint) {
        send(KRPCMessage(transaction: message.transaction, body: .answer(KRPCAnswer(sender: nodeID))), to: address)
    }

    mutating func refuse(_ error: KRPCError, _ message: KRPCMessage, from address: PackedEndpoint, at now: Instant) {
        guard !isReadOnly else {
            counters.queriesUnserved += 1
            return
        }
        guard budgets.allowsQuery(from: address, at: now) else {
            counters.flooded += 1
            return
        }
        counters.queriesRefused += 1
        say(error, message, to: address)
    }

    private mutating func fill(
        _ answer: inout KRPCAnswer, for query: KRPCQuery, from address: PackedEndpoint, at now: Instant
    ) throws(KRPCError) {
        switch query.method {
        case .ping, .reach, .dial: break
        case .probe: throw .unknownMethod
        case .findNode(let target):
            listNodes(&answer, target, query, address)
        case .getPeers(let infoHash):
            listNodes(&answer, infoHash, query, address)
            answer.token = kept.tokens.token(for: infoHash, to: address)
            // A hundred of the peers as in libtorrent would not fit a datagram beside the nodes.
            let found = kept.peers.peers(of: infoHash, family: address.family, limit: 50, at: now, using: &generator)
            if !found.isEmpty { answer.values = found.map { $0.compact[...] } }
        case .announcePeer(let infoHash, let port, let implied, let token):
            guard kept.tokens.accepts(token, for: infoHash, from: address) else { throw .badToken }
            budgets.verified(address, at: now)
            kept.peers.announce(implied ? address : address.with(port: port), under: infoHash, at: now)
        case .get(let target, let sequence):
            listNodes(&answer, target, query, address)
            answer.token = kept.tokens.token(for: target, to: address)
            guard let item = kept.items.item(target, at: now) else { return }
            if let signed = item.signed {
                answer.sequence = signed.sequence
                if let sequence, signed.sequence <= sequence { return }
                answer.key = signed.key.bytes[...]
                answer.signature = signed.signature[...]
            }
            answer.value = item.value[...]
        case .put(let request):
            guard kept.tokens.accepts(request.token, for: request.item.target, from: address) else { throw .badToken }
            budgets.verified(address, at: now)
            guard request.item.isAuthentic else { throw .badSignature }
            try kept.items.put(request.item, cas: request.cas, from: address, at: now)
        case .sampleInfoHashes(let target):
            listNodes(&answer, target, query, address)
            answer.interval = 60
            answer.number = Int64(kept.peers.hashCount)
            answer.samples = kept.peers.sample(20, using: &generator).flatMap(\.bytes)[...]
        }
    }

    /// The k closest proven nodes of each family that was asked for (BEP 32: by default that of the transport).
    private func listNodes(
        _ answer: inout KRPCAnswer, _ target: NodeID, _ query: KRPCQuery, _ address: PackedEndpoint
    ) {
        let want = query.want.isEmpty ? (address.isIPv4 ? .ipv4 : .ipv6) : query.want
        if want.contains(.ipv4) { answer.nodes = compactNodes(.ipv4, target, except: query.sender) }
        if want.contains(.ipv6) { answer.nodes6 = compactNodes(.ipv6, target, except: query.sender) }
    }
    private func compactNodes(_ family: Family, _ target: NodeID, except: NodeID) -> ArraySlice<UInt8> {
        let closest = tables[family.rawValue].closest(to: target, limit: configuration.k + 1, provenOnly: true)
        var out: [UInt8] = []
        out.reserveCapacity(configuration.k * family.nodeSize)
        for entry in closest.filter({ $0.contact.id != except }).prefix(configuration.k) {
            out += entry.contact.id.bytes
            out += entry.contact.address.compact
        }
        return out[...]
    }

    /// Sends an answer that fits a datagram, and is no weapon: a source that has not shown lately that it is where it says
    /// draws more than three times its query only out of a budget.
    private mutating func reply(
        _ answer: KRPCAnswer, to message: KRPCMessage, querySize: Int, sender: NodeID, _ address: PackedEndpoint,
        at now: Instant
    ) {
        var reply = KRPCMessage(transaction: message.transaction, body: .answer(answer))
        reply.observed = address.compact[...]
        var bytes = reply.encoded(pool: seal)
        if bytes.count > Self.datagramLimit {
            bytes = shrink(answer, reply, to: Self.datagramLimit, keepingValue: true)
        }
        let allowed = 3 * querySize
        if bytes.count > allowed, !isVerified(sender, address, at: now),
            !budgets.takeUnverified(bytes.count, for: address, at: now)
        {
            counters.curtailed += 1
            bytes = shrink(answer, reply, to: allowed, keepingValue: false)
        }
        send(bytes, to: address)
    }

    /// Below the 1452 bytes that an Ethernet path carries over IPv6.
    static let datagramLimit = 1400

    private func isVerified(_ id: NodeID, _ address: PackedEndpoint, at now: Instant) -> Bool {
        if let entry = tables[address.family.rawValue].entry(id), entry.contact.address == address,
            let last = entry.lastAnswer, now - last < Budgets.verification
        {
            return true
        }
        return budgets.isVerified(address, at: now)
    }

    /// Leaves things out until the datagram has at most `limit` bytes: the item, then nodes from the far end, then peers.
    private func shrink(
        _ answer: KRPCAnswer, _ message: KRPCMessage, to limit: Int, keepingValue: Bool
    ) -> [UInt8] {
        var answer = answer
        var message = message
        if !keepingValue {
            answer.value = nil
            answer.key = nil
            answer.signature = nil
        }
        while true {
            message.body = .answer(answer)
            let bytes = message.encoded(pool: seal)
            if bytes.count <= limit { return bytes }
            if let nodes = answer.nodes6, nodes.count >= 38 {
                answer.nodes6 = nodes.dropLast(38)
            } else if let values = answer.values, values.count > 1 {
                answer.values = values.dropLast()
            } else if let samples = answer.samples, samples.count >= 20 {
                answer.samples = samples.dropLast(20)
            } else if let nodes = answer.nodes, nodes.count >= 26 {
                answer.nodes = nodes.dropLast(26)
            } else {
                return bytes
            }
        }
    }
}
