import Primitives
import Wire

/// Queries out, answers in.
extension Overlay {
    /// Sends a query and arms its timer.
    ///
    /// - Parameter attempt: 0 at first; every repetition doubles the patience.
    mutating func ask(
        _ method: KRPCMethod, _ address: PackedEndpoint, id: NodeID?, for purpose: Transaction.Purpose,
        attempt: Int = 0, at now: Instant
    ) {
        var transaction = secrets.next()
        while transactions[transaction] != nil { transaction = secrets.next() }
        transactions[transaction] = Transaction(address: address, id: id, sentAt: now, purpose: purpose)
        var query = KRPCQuery(sender: nodeID, method: method)
        if wantsBothFamilies { query.want = [.ipv4, .ipv6] }
        var message = KRPCMessage(transaction: Self.bytes(of: transaction), body: .query(query))
        message.isReadOnly = isReadOnly
        send(message, to: address)
        var patience = configuration.timers.firstTimeout
        let (floor, ceiling) = (configuration.timers.timeoutFloor, configuration.timers.timeoutCeiling)
        let table = tables[address.family.rawValue]
        if let id, let own = table.entry(id)?.roundTrip.timeout(floor: floor, ceiling: ceiling) {
            patience = own
        } else if let typical = outlook.population.timeout(floor: floor, ceiling: ceiling) {
            patience = typical
        }
        patience = min(ceiling, patience * (1 << min(attempt, 4)))
        if case .reach = purpose { patience = Reachability.patience }
        if case .help = purpose { patience = Reachability.helpLimit }
        deadlines.push(.patience(transaction), at: now + patience)
        if let id { tables[address.family.rawValue].tried(id, at: now) }
    }

    mutating func send(_ message: KRPCMessage, to address: PackedEndpoint) {
        send(message.encoded(pool: seal), to: address)
    }
    mutating func send(_ bytes: [UInt8], to address: PackedEndpoint) {
        if seal != nil {
            outlook.correspondents.wrote(to: address, for: Correspondents.datagramLife, at: attachment.now)
        }
        counters.sent += 1
        counters.sentBytes += bytes.count
        effects.push(.send(bytes, to: address.endpoint))
    }

    /// Whether this node takes part in both networks of BEP 32.
    private var wantsBothFamilies: Bool { isActive(.ipv4) && isActive(.ipv6) }
    func isActive(_ family: Family) -> Bool {
        tables[family.rawValue].count > 0 || bootstrap.nodes.contains { $0.address.family == family }
    }

    static func bytes(of transaction: UInt32) -> ArraySlice<UInt8> {
        [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: transaction >> $0) }[...]
    }
    /// The query that an answer belongs to; nil (and counted) when nobody asked, or somebody else was asked.
    private mutating func close(_ message: KRPCMessage, from address: PackedEndpoint) -> Transaction? {
        let number = message.transaction.reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
        guard message.transaction.count == 4, let transaction = transactions[number], transaction.address == address
        else {
            counters.stray += 1
            return nil
        }
        transactions[number] = nil
        return transaction
    }

    mutating func accept(_ answer: KRPCAnswer, _ message: KRPCMessage, from address: PackedEndpoint, at now: Instant) {
        guard let transaction = close(message, from: address) else { return }
        if answer.sender == nodeID {
            metMyself(transaction, at: now)
            return
        }
        var roundTrip: Duration? = now - transaction.sentAt
        // A vote takes as long as a dial does.
        switch transaction.purpose {
        case .reach, .help: roundTrip = nil
        default: break
        }
        if let id = transaction.id, id != answer.sender { tables[address.family.rawValue].remove(id) }
        if !isGuest(transaction) {
            heard(PackedContact(id: answer.sender, address: address), roundTrip: roundTrip, at: now)
        }
        if let observed = message.observed.flatMap(PackedEndpoint.init(compact:)) {
            vote(observed, by: address, at: now)
        }
        let closer = contacts(in: answer)
        switch transaction.purpose {
        case .walk(let request, let family):
            walkAnswered(request, family, answer, closer, from: address, at: now)
        case .store(let request, let family, _):
            storeAnswered(request, family, nil, isLate: transaction.isLate, from: address, at: now)
        case .bootstrap(let index):
            bootstrapAnswered(index, at: now)
        case .reachToken: reachTokenAnswered(answer.token, by: transaction, at: now)
        case .reach: reachVoted(answer.reached, by: address)
        case .helpToken(let dial): helpTokenAnswered(answer.token, dial, by: transaction, at: now)
        case .help(let dial): helped(dial, reached: answer.reached, transaction, at: now)
        case .ping, .courtesy:
            break
        }
        for contact in closer.prefix(8) { consider(contact, at: now) }
    }

    mutating func accept(_ error: KRPCError, _ message: KRPCMessage, from address: PackedEndpoint, at now: Instant) {
        guard let transaction = close(message, from: address) else { return }
        // Whoever answers with an error is alive; its ID is the one we knew.
        if let id = transaction.id, !isGuest(transaction) {
            heard(PackedContact(id: id, address: address), roundTrip: now - transaction.sentAt, at: now)
        }
        switch transaction.purpose {
        case .walk(let request, let family):
            operations[request]?.walks.update(family) { $0.drop(address) }
            advance(request, at: now)
        case .store(let request, let family, _):
            storeAnswered(request, family, error, isLate: transaction.isLate, from: address, at: now)
        case .reachToken, .reach: reachVoted(nil, by: address)
        case .helpToken(let dial), .help(let dial): helped(dial, reached: nil, transaction, at: now)
        case .bootstrap, .ping, .courtesy:
            break
        }
    }

    /// Whether it was asked of somebody who is no node: a read-only one that dials others back.
    private func isGuest(_ transaction: Transaction) -> Bool {
        switch transaction.purpose {
        case .helpToken, .help:
            transaction.id.map { tables[transaction.address.family.rawValue].entry($0) == nil } ?? true
        default: false
        }
    }
    /// A proof of life.
    private mutating func heard(_ contact: PackedContact, roundTrip: Duration?, at now: Instant) {
        if let roundTrip { outlook.population.measure(roundTrip) }
        attachment.silentInRow = 0
        attachment.lastAnswer = now
        tables[contact.address.family.rawValue].answered(contact, roundTrip: roundTrip, at: now)
        budgets.verified(contact.address, at: now)
        guard attachment.connection != .joined else { return }
        let wasIsolated = attachment.connection == .isolated
        attachment.connection = .joined
        effects.push(.joined(contacts: contactCount))
        bootstrap.reset(at: now)
        deadlines.push(.bootstrap, at: now)
        if wasIsolated {
            attachment.selfLookupsDone = 0
            _ = begin(.join, target: nodeID, at: now)
        }
    }

    /// The nodes that an answer names, of both families, at most twenty each.
    private func contacts(in answer: KRPCAnswer) -> [PackedContact] {
        var out: [PackedContact] = []
        if let nodes = answer.nodes { out += PackedContact.parse(nodes, family: .ipv4, limit: 20) ?? [] }
        if let nodes = answer.nodes6 { out += PackedContact.parse(nodes, family: .ipv6, limit: 20) ?? [] }
        return out.filter { $0.id != nodeID }
    }

    /// Our own answer came back: this address is ours (a bootstrap list may well name everybody).
    private mutating func metMyself(_ transaction: Transaction, at now: Instant) {
        switch transaction.purpose {
        case .walk(let request, let family):
            operations[request]?.walks.update(family) { $0.drop(transaction.address) }
            advance(request, at: now)
        case .store(let request, let family, _):
            storeAnswered(
                request, family, .badToken, isLate: transaction.isLate, from: transaction.address, at: now)
        default: break
        }
        bootstrap.isMyself(transaction.address)
        if bootstrap.nodes.isEmpty, attachment.connection == .starting, contactCount == 0 {
            attachment.connection = .joined
            effects.push(.joined(contacts: 0))
        }
    }

    /// A node that asked us or was mentioned to us: worth a ping when the table has room for it.
    mutating func consider(_ contact: PackedContact, at now: Instant) {
        let table = contact.address.family.rawValue
        guard contact.id != nodeID, contact.address.isUsable, tables[table].entry(contact.id) == nil,
            tables[table].hasRoom(for: contact), !bootstrap.myself.contains(contact.address),
            budgets.allowsPing(to: contact.address, at: now)
        else { return }
        ask(.ping, contact.address, id: contact.id, for: .ping, at: now)
    }

    /// A query's patience is over. The transaction stays open a while for a late answer.
    mutating func lostPatience(_ number: UInt32, at now: Instant) {
        guard var transaction = transactions[number], !transaction.isLate else { return }
        transaction.isLate = true
        transactions[number] = transaction
        deadlines.push(.forget(number), at: now + configuration.timers.lateness)
        counters.timeouts += 1
        attachment.silentInRow += 1
        if let id = transaction.id {
            // While nobody answers at all the network is gone, and the table is all we have to find it again.
            tables[transaction.address.family.rawValue].failed(id, evicting: attachment.silentInRow < 6)
        }
        switch transaction.purpose {
        case .walk(let request, let family):
            operations[request]?.walks.update(family) { $0.timedOut(transaction.address) }
            advance(request, at: now)
        case .store(let request, let family, let attempt):
            storeSilent(request, family, transaction, attempt: attempt, at: now)
        case .reachToken, .reach: reachVoted(nil, by: transaction.address)
        case .helpToken(let dial), .help(let dial): dialMyself(dial, at: now)
        case .bootstrap, .ping, .courtesy: break
        }
        let everybodyLeft = contactCount == 0 || attachment.silentInRow >= 6
        if attachment.connection == .joined, everybodyLeft, let last = attachment.lastAnswer, now - last > .seconds(5) {
            attachment.connection = .isolated
            effects.push(.isolated)
            bootstrap.reset(at: now)
            deadlines.push(.bootstrap, at: now)
        }
    }
}

extension [Walk] {
    mutating func update(_ family: Family, _ change: (inout Walk) -> Void) {
        guard let index = firstIndex(where: { $0.family == family }) else { return }
        change(&self[index])
    }
}
