import EventLoop
import Lending
import Primitives
import Sensors
import Telemetry

/// Looks once a second, off the loop, whether other programs take the processor from a peer; its leader is told, and whoever asks.
public final class ProcessorWatch {
    private let meter: ProcessorMeter
    private var share = ProcessorShare()
    private weak var daemon: LiveDaemon?
    private var timer: EventLoop.Timer?
    private var isReading = false

    /// - Parameter sensors: before `/proc`; empty for this machine.
    public init(sensors: String = "") { meter = ProcessorMeter(root: sensors) }

    func attach(to daemon: LiveDaemon) {
        self.daemon = daemon
        timer = EventLoop.Timer(daemon.loop) { [unowned self] in look() }
        look()
    }
    func close() { timer?.close() }

    private func look() {
        guard let daemon else { return }
        timer?.arm(at: daemon.loop.now + .seconds(1))
        guard !isReading else { return }
        isReading = true
        let meter = meter
        daemon.offLoop({ (meter.read(), meter.processors) }) { [weak self] reading, processors in
            guard let self, let daemon = self.daemon else { return }
            isReading = false
            let now = daemon.loop.now
            share.receive(reading, processors: processors, at: now)
            while let what = share.poll() { daemon.onEvent?(Event(what, at: now)) }
            daemon.count(processorShare: share.isTaken ? share.report?.share : nil)
        }
    }
    var status: ProcessorStatus {
        let report = share.report
        return ProcessorStatus(
            isTaken: share.isTaken, overSeconds: report?.over.inSeconds, askedSeconds: report?.asked.inSeconds,
            hadSeconds: report?.ran.inSeconds, unseen: share.unseen)
    }
}

/// What a peer has of the processors of its machine. Its JSON is described in docs/STATUS.md.
public struct ProcessorStatus: Codable, Hashable, Sendable {
    /// Other programs take more than two thirds of what it asks for.
    public var isTaken: Bool
    /// So long it was looked at, a minute at most; what its threads asked for meanwhile, all together, and what they had.
    public var overSeconds: Double?
    public var askedSeconds: Double?
    public var hadSeconds: Double?
    /// Why it cannot be seen.
    public var unseen: String?
}
