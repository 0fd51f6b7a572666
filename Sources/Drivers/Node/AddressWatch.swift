import EventLoop
import Primitives

/// Looks once a second whether this machine is still where it was.
final class AddressWatch {
    private let loop: Loop
    private var timer: Timer?
    private var known = InterfaceAddresses.current
    private static let interval = Duration.seconds(1)

    /// - Parameter onChange: called on the loop, when the addresses are others; not while there are none, as there is nobody to reach.
    init(_ loop: Loop, onChange: @escaping () -> Void) {
        self.loop = loop
        timer = Timer(loop) { [unowned self] in
            if let current = InterfaceAddresses.current, current != known {
                known = current
                if !current.isEmpty { onChange() }
            }
            timer?.arm(at: self.loop.now + Self.interval)
        }
        timer?.arm(at: loop.now + Self.interval)
    }
    func close() { timer?.close() }
}
