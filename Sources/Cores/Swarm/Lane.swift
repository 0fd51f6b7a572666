/// Which channel a packet takes; the order is the priority.
public enum Lane: UInt8, CaseIterable, Sendable {
    case control, activations, exchange, bulk
}
