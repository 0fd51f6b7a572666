/// The contract of every core: a plain value that is handed inputs with the time and hands back effects.
///
/// A driver's loop is: one input, then ``poll()`` until nil, then re-arm a timer at ``nextWake``. No clock, socket, thread,
/// lock or unseeded randomness inside. The libuv driver and the simulator run the same cores.
public protocol Core {
    associatedtype Effect
    /// Called at or after ``nextWake``. Harmless when nothing is due.
    mutating func wake(at now: Instant)
    /// The next thing for the driver to do; drained to nil after every input.
    mutating func poll() -> Effect?
    /// The earliest moment ``wake(at:)`` has something to do; nil while nothing is in flight.
    var nextWake: Instant? { get }
}

/// First in, first out; the usual store of effects in a core.
public struct EffectQueue<Effect> {
    @usableFromInline var items: [Effect?] = []
    @usableFromInline var head = 0
    @inlinable public init() {}
    @inlinable public var isEmpty: Bool { head == items.count }
    @inlinable public var count: Int { items.count - head }
    @inlinable public mutating func push(_ effect: Effect) { items.append(effect) }
    @inlinable public mutating func pop() -> Effect? {
        guard head < items.count else { return nil }
        var effect: Effect?
        swap(&effect, &items[head])
        head += 1
        if head == items.count {
            items.removeAll(keepingCapacity: true)
            head = 0
        } else if head > 1024, head * 2 > items.count {
            items.removeFirst(head)
            head = 0
        }
        return effect
    }
}
extension EffectQueue: Sendable where Effect: Sendable {}
