public import Primitives

/// Everything between one sender and its destinations: the up line, then a latency, jitter, loss and perhaps a cap of each pair.
///
/// What a host offers waits for its up line, round robin among destinations and then among streams, in chunks of at most
/// ``Shaping/chunkBytes``. A chunk arrives one latency after its last byte has left. The chunks of a stream keep their order; a
/// loss delays a stream by one round trip for each attempt (selective acknowledgement, no collapse of the congestion window:
/// long fat lossy paths are worse in reality) and silences a datagram. The receiver's down line is a ``Reception``.
///
/// The same arithmetic serves the simulator (one `Shaper` and one `Reception` a host) and a live process that shapes itself.
/// Late calls of ``wake(at:)`` cost no rate: chunks follow each other in virtual time, not in the time of the wake-up.
public struct Shaper<Payload>: Core {
    public enum Effect {
        /// The parcel reaches the destination's down line (in the simulator) or is handed to the socket (live).
        case arrive(Parcel<Payload>)
        /// These bytes no longer wait here: the up line has carried them.
        case left(to: HostID, stream: UInt64?, bytes: Int)
    }
    @usableFromInline var up: AccessLine
    @usableFromInline let seed: UInt64
    @usableFromInline var queue = FairQueue<Payload>()
    /// By lane of the queue; what was never set lets everything through at once.
    @usableFromInline var paths: [PairPath] = []
    @usableFromInline var leaving: (parcel: Parcel<Payload>, lane: Int, left: Instant, cancelled: Bool)?
    @usableFromInline var onTheWay = TimedQueue<Parcel<Payload>>()
    @usableFromInline var effects = EffectQueue<Effect>()
    /// Remembered, because it is asked for more often than it changes.
    @usableFromInline var due: Instant?
    /// When a pair's cap lets its next chunk start, if that is all that is waited for.
    @usableFromInline var resume: Instant?
    /// Datagrams lost on a link or dropped before the up line.
    @usableFromInline var lost = 0
    public var datagramsLost: Int { lost }

    /// - Parameters:
    ///   - up: rate of the access line; nil when it is never the bottleneck.
    ///   - seed: jitter and loss are drawn from it, for each destination apart.
    @inlinable public init(up: BitRate?, seed: UInt64) {
        self.up = AccessLine(rate: up)
        self.seed = seed
    }

    /// From now on `host` is reached like this; hosts never set are reached at once.
    @inlinable public mutating func setLink(to host: HostID, _ link: LinkProperties) {
        let lane = queue.place(of: host)
        layPaths()
        paths[lane].set(link)
    }
    /// Whether ``setLink(to:_:)`` was called for a host.
    @inlinable public func knows(_ host: HostID) -> Bool {
        guard let lane = queue.places[host], lane < paths.count else { return false }
        return paths[lane].isSet
    }
    /// Lays the line to whoever is met for the first time.
    @inlinable public mutating func meet(_ host: HostID, _ link: () -> LinkProperties) {
        if !knows(host) { setLink(to: host, link()) }
    }
    @inlinable public func link(to host: HostID) -> LinkProperties {
        guard let lane = queue.places[host], lane < paths.count else { return LinkProperties(latency: .zero) }
        return paths[lane].link
    }
    /// Each lane has one.
    @inlinable mutating func layPaths() {
        while paths.count < queue.lanes.count {
            let host = queue.lanes[paths.count].host
            paths.append(
                PairPath(
                    link: LinkProperties(latency: .zero), random: SeededGenerator(seed: seed, stream: host.value)))
        }
    }
    @inlinable public mutating func setUp(_ rate: BitRate?) { up.rate = rate }

    /// Queues `bytes` of a stream; `payload` arrives with the last of them.
    @inlinable public mutating func offerStream(
        bytes: Int, _ payload: Payload, to host: HostID, stream: UInt64, at now: Instant
    ) {
        precondition(bytes > 0, "an offer has at least one byte")
        queue.push(host, stream, bytes: bytes, payload: payload, at: now)
        advance(to: now)
    }
    /// Queues a datagram; it may be lost.
    @inlinable public mutating func offerDatagram(bytes: Int, _ payload: Payload, to host: HostID, at now: Instant) {
        precondition(bytes > 0, "an offer has at least one byte")
        guard queue.queuedBytes(host, nil) + bytes <= Shaping.datagramQueueBytes else {
            lost += 1
            return
        }
        queue.push(host, nil, bytes: bytes, payload: payload, at: now)
        advance(to: now)
    }
    /// Bytes that have not left the up line; what is on its way no longer counts.
    @inlinable public func queuedBytes(to host: HostID, stream: UInt64?) -> Int {
        var bytes = queue.queuedBytes(host, stream)
        if leaving != nil, !leaving!.cancelled, leaving!.parcel.host == host, leaving!.parcel.stream == stream {
            bytes += leaving!.parcel.bytes
        }
        return bytes
    }
    /// Drops what waits and what is on its way of a stream that was closed.
    @inlinable public mutating func cancel(to host: HostID, stream: UInt64) {
        queue.remove(host, stream)
        if let lane = queue.places[host], lane < paths.count { paths[lane].forget(stream) }
        onTheWay.removeAll { $0.host == host && $0.stream == stream }
        if leaving != nil, leaving!.parcel.host == host, leaving!.parcel.stream == stream { leaving!.cancelled = true }
        settle()
    }
    /// Drops everything to a host that is gone.
    @inlinable public mutating func cancel(to host: HostID) {
        queue.remove(host)
        if let lane = queue.places[host], lane < paths.count { paths[lane].forgetStreams() }
        onTheWay.removeAll { $0.host == host }
        if leaving?.parcel.host == host { leaving!.cancelled = true }
        settle()
    }

    @inlinable public mutating func wake(at now: Instant) { advance(to: now) }
    @inlinable public mutating func poll() -> Effect? { effects.pop() }
    @inlinable public var nextWake: Instant? { due }

    /// Carries chunks over the up line until `now`, then lets everything arrive that is due.
    @inlinable mutating func advance(to now: Instant) {
        while true {
            if leaving != nil {
                guard leaving!.left <= now, let (parcel, lane, left, cancelled) = leaving.take() else { break }
                queue.release()
                if !cancelled { send(parcel, lane, left: left) }
            }
            guard start(at: now) else { break }
        }
        while let parcel = onTheWay.pop(due: now) { effects.push(.arrive(parcel)) }
        settle()
    }
    @inlinable mutating func settle() {
        var next = resume
        if leaving != nil { next = leaving!.left }
        due = earliest(onTheWay.next, next)
    }

    /// Starts the next chunk, whose turn it is and whose pair is free. False when nothing may start by `now`.
    @inlinable mutating func start(at now: Instant) -> Bool {
        resume = nil
        guard !queue.isEmpty else { return false }
        layPaths()
        let free = max(up.busyUntil, .zero)
        var chosen: (lane: Int, at: Instant)?
        for lane in queue.ring {
            let ready = max(free, paths[lane].line.busyUntil)
            if ready < chosen?.at ?? Instant(nanoseconds: .max) { chosen = (lane, ready) }
            if ready == free { break }
        }
        guard let (lane, ready) = chosen else { return false }
        guard ready <= now else {
            resume = ready
            return false
        }
        let (parcel, offered) = queue.pop(lane)
        let started = max(ready, offered)
        leaving = (parcel, lane, up.admit(bytes: parcel.bytes, at: started), false)
        // The pair's cap counts from the same moment, so that nothing queues between the two lines.
        _ = paths[lane].line.admit(bytes: parcel.bytes, at: started)
        return true
    }

    @inlinable mutating func send(_ parcel: Parcel<Payload>, _ lane: Int, left: Instant) {
        effects.push(.left(to: parcel.host, stream: parcel.stream, bytes: parcel.bytes))
        guard let arrival = paths[lane].arrival(of: parcel.bytes, stream: parcel.stream, left: left) else {
            lost += 1
            return
        }
        onTheWay.push(parcel, at: arrival)
    }
}

extension Shaper.Effect: Sendable where Payload: Sendable {}
extension Shaper: Sendable where Payload: Sendable {}
