import Daemon
import Digests
import EventLoop
import Foundation
import Primitives
public import Swarm
public import Telemetry
public import Topologies

/// Gathers a pool as a launcher would, has its speeds and links measured, and lets it go again before anything is planned.
public final class MeasureRun {
    public enum Result {
        case measured(Topology)
        case failed(String)
        case interrupted
    }
    private let service = ServiceRun()
    private var topology: Topology?
    private var failure: String?
    private var interrupted = false

    public init() {}

    /// A job that nobody trains: peers need to be asked for something.
    public static let manifest = """
        name: measure
        model: {hidden_size: 16, layers: 1, heads: 1, intermediate_size: 16, context: 16}
        data: {path: none, validation_fraction: 0}
        train: {tokens: 1_000_000}
        parallel: {virtual_pipelines: 1, micro_batch: 1}
        """

    public func run(
        _ setup: LiveDaemon.Setup, manifest: String, parameters: JobParameters, content: [UInt8],
        options: CoordinatorOptions, onEvent: @escaping (Event) -> Void
    ) throws(NodeError) -> Result {
        let loop = service.loop
        let key = setup.key
        let daemon = try LiveDaemon(loop, setup) { now in
            .coordinator(
                Coordinator(
                    key: key, manifest: manifest, parameters: parameters, content: content, options: options, at: now))
        }
        daemon.onEvent = onEvent
        daemon.onQuestion = { [unowned self] question in
            topology = question.topology.withUsableNames()
            return PlanRefusal("it was only measured")
        }
        daemon.onSwarm = { [unowned self] effect in
            guard case .ended(let end) = effect else { return }
            if case .failed(let why) = end { failure = why }
            daemon.windDown()
        }
        service.watchSignals { [unowned self] in
            interrupted = true
            daemon.stop()
        }
        daemon.start()
        loop.run()
        loop.close()
        if interrupted { return .interrupted }
        if let topology { return .measured(topology) }
        return .failed(failure ?? "the loop ended before anything was measured")
    }
}
