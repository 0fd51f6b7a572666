public import Primitives

/// The receiving side of a host: its down line, shared round robin by those who send to it.
public struct Reception<Payload>: Core {
    public enum Effect {
        /// The parcel has passed the down line. `payload` is nil for all but the last piece of an offer.
        case deliver(Parcel<Payload>)
    }
    @usableFromInline var down: AccessLine
    @usableFromInline var queue = FairQueue<Payload?>()
    @usableFromInline var passing: (parcel: Parcel<Payload>, passed: Instant, cancelled: Bool)?
    @usableFromInline var effects = EffectQueue<Effect>()
    /// Bytes that have arrived and not passed.
    @usableFromInline var waiting = 0
    public var backlog: Int { waiting }

    /// - Parameter down: rate of the access line; nil when it is never the bottleneck.
    @inlinable public init(down: BitRate?) { self.down = AccessLine(rate: down) }
    @inlinable public mutating func setDown(_ rate: BitRate?) { down.rate = rate }

    /// The last byte of `parcel` reaches the down line; `parcel.host` says from whom.
    @inlinable public mutating func arrive(_ parcel: Parcel<Payload>, at now: Instant) {
        waiting += parcel.bytes
        queue.push(parcel.host, parcel.stream, bytes: parcel.bytes, payload: parcel.payload, at: now)
        advance(to: now)
    }
    /// Bytes of one stream that have arrived and not passed.
    @inlinable public func queuedBytes(from host: HostID, stream: UInt64?) -> Int {
        var bytes = queue.queuedBytes(host, stream)
        if let (parcel, _, cancelled) = passing, !cancelled, parcel.host == host, parcel.stream == stream {
            bytes += parcel.bytes
        }
        return bytes
    }
    /// Forgets a stream that was closed.
    @inlinable public mutating func cancel(from host: HostID, stream: UInt64) {
        waiting -= queue.queuedBytes(host, stream)
        queue.remove(host, stream)
        if let (parcel, _, cancelled) = passing, !cancelled, parcel.host == host, parcel.stream == stream {
            waiting -= parcel.bytes
            passing!.cancelled = true
        }
    }

    @inlinable public mutating func wake(at now: Instant) { advance(to: now) }
    @inlinable public mutating func poll() -> Effect? { effects.pop() }
    @inlinable public var nextWake: Instant? { passing == nil ? nil : passing!.passed }

    @inlinable mutating func advance(to now: Instant) {
        while true {
            if passing != nil {
                guard passing!.passed <= now, let (parcel, _, cancelled) = passing.take() else { return }
                queue.release()
                if !cancelled {
                    waiting -= parcel.bytes
                    effects.push(.deliver(parcel))
                }
            }
            guard let lane = queue.first else { return }
            let (parcel, arrived) = queue.pop(lane)
            passing = (
                Parcel(host: parcel.host, stream: parcel.stream, bytes: parcel.bytes, payload: parcel.payload ?? nil),
                down.absorb(bytes: parcel.bytes, lastByteAt: arrived), false
            )
        }
    }
}
extension Reception.Effect: Sendable where Payload: Sendable {}
extension Reception: Sendable where Payload: Sendable {}
