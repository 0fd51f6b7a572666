import Links
public import Primitives

/// What has come to a place where nothing passes: streams' bytes, which their senders' kernels send again and again. Datagrams are lost.
struct Outage {
    var parcels: [Parcel<Freight>] = []
    /// When the first of them was lost: retransmissions are counted from here.
    var since: Instant?
    /// The line is whole again, and this is when the next retransmission arrives; nil while it is cut.
    var endsAt: Instant?

    /// TCP sends again after 0.2 s, then waits twice as long each time, at most 120 s (RFC 6298, with Linux' least and most).
    func retransmission(after now: Instant) -> Instant {
        guard var at = since else { return now }
        var pause = Duration.milliseconds(200)
        while at < now {
            at += pause
            pause = min(pause * 2, .seconds(120))
        }
        return at
    }
    func holds(_ stream: UInt64) -> Bool { parcels.contains { $0.stream == stream } }
}

/// Lines that are cut, and machines that stand still.
extension VirtualNetwork {
    /// Nothing passes from one host to the other. What streams carry is sent again by the kernels; whether a stream survives is for those
    /// who use it to decide, who hear nothing meanwhile. Datagrams are lost.
    public mutating func cut(from: Int, to: Int) {
        let pair = Pair(from: from, to: to)
        outages[pair, default: Outage()].endsAt = nil
    }
    /// The line is whole again: what is sent anew passes; what was held comes with the next retransmission.
    ///
    /// - Returns: when ``deliverHeld(from:to:)`` is to be called; nil when nothing was held.
    public mutating func mend(from: Int, to: Int) -> Instant? {
        let pair = Pair(from: from, to: to)
        guard let outage = outages[pair], outage.endsAt == nil else { return nil }
        guard !outage.parcels.isEmpty else {
            outages[pair] = nil
            return nil
        }
        let at = outage.retransmission(after: now)
        outages[pair]!.endsAt = at
        return at
    }
    /// The retransmission arrives, if the line is whole.
    public mutating func deliverHeld(from: Int, to: Int) {
        let pair = Pair(from: from, to: to)
        guard let ends = outages[pair]?.endsAt, ends <= now, let outage = outages.removeValue(forKey: pair),
            let place = hosts[to].lines
        else { return }
        for parcel in outage.parcels { lines[place].reception.arrive(parcel, at: now) }
        drainReception(to, place)
        arm(to)
    }
    /// - Parameter parcel: that would arrive now; `host` says from whom.
    /// - Returns: whether it does not.
    mutating func isStopped(_ parcel: Parcel<Freight>, to: Int) -> Bool {
        let pair = Pair(from: Int(parcel.host.value), to: to)
        guard let outage = outages[pair] else { return false }
        guard let stream = parcel.stream else { return outage.endsAt == nil }
        // Behind a gap nothing is handed on.
        guard outage.endsAt == nil || outage.holds(stream) else { return false }
        outages[pair]!.parcels.append(parcel)
        if outage.since == nil { outages[pair]!.since = now }
        return true
    }

    /// The process stands still from now on (SIGSTOP, a machine that is overwhelmed): its kernel takes what comes, the process hears of it
    /// when it goes on. Nobody new can reach it.
    public mutating func freeze(_ host: Int) { if frozen[host] == nil { frozen[host] = [] } }
    /// It goes on: everything that came is there at once.
    public mutating func thaw(_ host: Int) {
        for occurrence in frozen.removeValue(forKey: host) ?? [] { happened.push(occurrence) }
    }
    public func isFrozen(_ host: Int) -> Bool { frozen[host] != nil }
    /// - Returns: whether the host does not hear of it now.
    mutating func isWithheld(_ occurrence: Occurrence) -> Bool {
        guard let waiting = frozen[occurrence.host] else { return false }
        switch occurrence.what {
        case .arrived(.datagram), .arrived(.letter): if waiting.count >= Self.datagramsHeld { return true }
        default: break
        }
        frozen[occurrence.host]!.append(occurrence)
        return true
    }
    /// A socket's buffer.
    static let datagramsHeld = 256

    /// The host is somewhere else from now on: its streams are dead, and nobody is told.
    public mutating func relocate(_ host: Int, to endpoint: Endpoint) {
        move(host, to: endpoint)
        for id in hosts[host].streams.keys.sorted() { mute(id, of: host) }
    }
}
