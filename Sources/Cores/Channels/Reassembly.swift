import Primitives

/// Messages that are longer than their window and not whole yet, and who may go on with one when memory is short.
///
/// To announce a long message costs nothing and is promised nothing: what counts is what has come. While all unfinished messages
/// together hold less than the budget everybody goes on. Then only one does, the one with the least to come, so that some
/// message becomes whole; and if that one does not get on, another.
struct Reassembly: Sendable {
    struct Share: Sendable {
        let peer: PeerID
        let channel: Channel
        let length: Int
        /// It had its chance and did not get on.
        var isSpent = false
    }
    private(set) var long: [Share] = []
    /// Who goes on while memory is short; until when it must have got further, and from where.
    private(set) var favourite: (peer: PeerID, channel: Channel)?
    /// Whether somebody may be waiting because memory was short.
    private(set) var isRationed = false
    private var checkAt = Instant.zero
    private var receivedThen: UInt64 = 0
    /// Memory of all messages that are not whole, however long; and of those of strangers.
    private(set) var partialBytes = 0
    private(set) var strangerBytes = 0
    /// Nobody is turned out before.
    var relievedAt = Instant(nanoseconds: .min / 4)
    /// A favourite must bring this much, or the rest of its message, in the time of its patience.
    static let progressBytes: UInt64 = 262_144

    var nextWake: Instant? { favourite == nil ? nil : checkAt }

    /// So many bytes more are held of somebody's messages.
    mutating func hold(_ bytes: Int, trusted: Bool) {
        partialBytes += bytes
        if !trusted { strangerBytes += bytes }
    }

    func contains(_ peer: PeerID, _ channel: Channel) -> Bool {
        !long.isEmpty && long.contains { $0.peer == peer && $0.channel == channel }
    }
    func isFavourite(_ peer: PeerID, _ channel: Channel) -> Bool {
        favourite.map { $0.peer == peer && $0.channel == channel } ?? false
    }
    mutating func begin(_ peer: PeerID, _ channel: Channel, length: Int) {
        long.append(Share(peer: peer, channel: channel, length: length))
    }
    /// The message is whole.
    mutating func forget(_ peer: PeerID, _ channel: Channel) {
        guard !long.isEmpty else { return }
        long.removeAll { $0.peer == peer && $0.channel == channel }
        if isFavourite(peer, channel) { favourite = nil }
    }
    mutating func forget(_ peer: PeerID) {
        long.removeAll { $0.peer == peer }
        if favourite?.peer == peer { favourite = nil }
    }
    mutating func relax() {
        favourite = nil
        isRationed = false
        for place in long.indices { long[place].isSpent = false }
    }
    /// Whether the favourite has got on; if not it is none any more.
    mutating func check(received: UInt64, patience: Duration, at now: Instant) {
        guard let (peer, channel) = favourite, checkAt <= now else { return }
        if received - receivedThen >= Self.progressBytes {
            receivedThen = received
            checkAt = now + patience
            return
        }
        favourite = nil
        for place in long.indices where long[place].peer == peer && long[place].channel == channel {
            long[place].isSpent = true
        }
    }
    mutating func favour(_ share: Share, received: UInt64, checkAt: Instant) {
        favourite = (share.peer, share.channel)
        isRationed = true
        receivedThen = received
        self.checkAt = checkAt
    }
}

extension Channels {
    private var isMemoryShort: Bool { reassembly.partialBytes >= limits.inbound.reassemblyBytes }

    /// Lets everybody go on, or one, as memory allows.
    mutating func passMemoryOn(at now: Instant) {
        guard !reassembly.long.isEmpty else { return }
        guard isMemoryShort else {
            guard reassembly.isRationed else { return }
            reassembly.relax()
            for share in reassembly.long { letOn(share.peer, at: now) }
            return
        }
        if let (peer, channel) = reassembly.favourite {
            let received = peers[peer]?.session.inbox.received(channel) ?? 0
            reassembly.check(received: received, patience: limits.inbound.patience, at: now)
        }
        guard reassembly.favourite == nil else { return }
        if reassembly.long.allSatisfy(\.isSpent) { reassembly.relax() }
        var best: (share: Reassembly.Share, left: Int)?
        for share in reassembly.long where !share.isSpent && isConnected(to: share.peer) {
            let left = share.length - peers[share.peer]!.session.inbox.partialBytes(share.channel)
            if best.map({ left < $0.left }) ?? true { best = (share, left) }
        }
        guard let share = best?.share else { return }
        let received = peers[share.peer]!.session.inbox.received(share.channel)
        reassembly.favour(share, received: received, checkAt: now + limits.inbound.patience)
        letOn(share.peer, at: now)
    }
    private mutating func letOn(_ peer: PeerID, at now: Instant) {
        guard let id = peers[peer]?.connection else { return }
        grant(id, at: now)
        fill(id, at: now)
    }
    /// Whether the peer may be granted more on a channel, as far as memory is concerned.
    func isAllowedOn(_ peer: PeerID, _ channel: Channel) -> Bool {
        !isMemoryShort || !reassembly.contains(peer, channel) || reassembly.isFavourite(peer, channel)
    }

    /// When unfinished messages hold too much, whoever sends its one slowest is turned out.
    mutating func relieve(at now: Instant) {
        relieveOfStrangers(at: now)
        guard reassembly.partialBytes > limits.inbound.partialBytes, now - reassembly.relievedAt > .seconds(1) else {
            return
        }
        reassembly.relievedAt = now
        var slowest: (peer: PeerID, rate: Double)?
        for peer in peers.order {
            let patience = limits.inbound.patience * 2
            guard let rate = peers[peer]!.session.inbox.slowest(olderThan: patience, at: now) else { continue }
            if slowest.map({ rate < $0.rate }) ?? true { slowest = (peer, rate) }
        }
        guard let peer = slowest?.peer else { return }
        violations += 1
        end(peer, .violation("its unfinished messages hold memory and do not get on"), at: now)
    }

    /// Strangers are owed nothing: whoever of them holds most goes at once.
    private mutating func relieveOfStrangers(at now: Instant) {
        guard let most = limits.inbound.strangers?.partialBytes else { return }
        while reassembly.strangerBytes > most {
            var heaviest: (peer: PeerID, bytes: Int)?
            for peer in peers.order where !peers[peer]!.session.inbox.isTrusted {
                let bytes = peers[peer]!.session.inbox.partialBytes
                if bytes > heaviest?.bytes ?? 0 { heaviest = (peer, bytes) }
            }
            guard let peer = heaviest?.peer else { return }
            violations += 1
            end(peer, .violation("unfinished messages of strangers hold too much, and its ones most"), at: now)
        }
    }

    // MARK: Credit

    /// Grants what is due on a connection, or has it wait for the download cap or the peer's rate of messages.
    mutating func grant(_ id: ConnectionID, at now: Instant) {
        guard connections[id]?.isOpen == true, let peer = connections[id]!.peer, !isMoving(peer) else { return }
        for channel in Channel.allCases
        where peers[peer]!.session.inbox.isDue(channel) && isAllowedOn(peer, channel) {
            if pacing.grantQueue.contains(where: { $0.connection == id && $0.channel == channel }) { continue }
            if grantReadyAt(id, channel) <= now {
                grant(channel, id, peer, at: now)
                guard connections[id]?.isOpen == true else { return }
            } else {
                pacing.grantQueue.append((id, channel))
            }
        }
    }
    func grantReadyAt(_ id: ConnectionID, _ channel: Channel) -> Instant {
        let ready = channel == .control ? Instant(nanoseconds: .min / 4) : pacing.download.readyFrom
        guard let peer = connections[id]?.peer, let from = peers[peer]?.session.messagesPaidUntil else { return ready }
        return max(ready, from)
    }
    private mutating func grant(_ channel: Channel, _ id: ConnectionID, _ peer: PeerID, at now: Instant) {
        let before = peers[peer]!.session.inbox.limit(channel)
        peers[peer]!.session.inbox.grant(channel)
        let (received, limit) = peers[peer]!.session.inbox.confirmation(channel)
        if channel != .control { pacing.download.spend(Int(limit - before), at: now) }
        urgent(Frame.ack(received: received, limit: limit, channel), id, at: now)
    }
    mutating func grantWhatWaited(at now: Instant) {
        for waiting in pacing.grantQueue where grantReadyAt(waiting.connection, waiting.channel) <= now {
            // An earlier one may have used the cap up, or ended the connection.
            guard grantReadyAt(waiting.connection, waiting.channel) <= now,
                let place = pacing.grantQueue.firstIndex(where: { $0 == waiting })
            else { continue }
            pacing.grantQueue.remove(at: place)
            grant(waiting.connection, at: now)
        }
    }
    /// A hello of ours is under way that says how far the peer's streams have come. What would confirm more must not overtake it: the peer would give up
    /// bytes that it is then asked for, where the new connection is slower than the open one.
    private func isMoving(_ peer: PeerID) -> Bool {
        let all = connections.with(peer)
        return all.count > 1 && all.contains { connections[$0]?.isOpen == false && connections[$0]?.said != nil }
    }
    /// A connection is gone whose hello held up the open one's grants.
    mutating func grantAfterMove(of peer: PeerID) {
        guard let open = peers[peer]?.connection, !isMoving(peer) else { return }
        for channel in Channel.allCases
        where !pacing.grantQueue.contains(where: { $0.connection == open && $0.channel == channel }) {
            pacing.grantQueue.append((open, channel))
        }
    }
    /// What has come and was not confirmed yet, for all channels.
    mutating func confirmations(_ id: ConnectionID) -> [UInt8] {
        guard connections[id]?.isOpen == true, let peer = connections[id]!.peer, !isMoving(peer) else { return [] }
        var frames: [UInt8] = []
        for channel in Channel.allCases where peers[peer]!.session.inbox.isUnconfirmed(channel) {
            let (received, limit) = peers[peer]!.session.inbox.confirmation(channel)
            frames += Frame.ack(received: received, limit: limit, channel)
        }
        return frames
    }
}
