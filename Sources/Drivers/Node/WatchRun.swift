import Checkpoints
import Coordination
public import Daemon
public import Digests
import EventLoop
import Foundation
public import Membership
public import Primitives
public import Record
public import Telemetry
import Training
import Weights

/// Watches a job of a pool from outside, until it ends; and collects its result, where that is wanted.
public final class WatchRun {
    public enum Result {
        case collected(CollectedResult)
        /// The job's last entry.
        case ended(Finish)
        case failed(String)
        case interrupted
    }
    private let service = ServiceRun()
    private var result: Result?
    private var patience: EventLoop.Timer?

    public init() {}

    /// - Parameters:
    ///   - choice: which job is meant.
    ///   - collector: whose key collects the result.
    ///   - wait: how long somebody is looked for who has it; and, when the job is over, who has its weights.
    public func run(
        _ setup: LiveDaemon.Setup, choosing choice: @escaping JobReader.Choice, collectingAs collector: PeerID? = nil,
        what: String, wait: Duration, onEvent: @escaping (Event) -> Void
    ) throws(NodeError) -> Result {
        let loop = service.loop
        let daemon = try LiveDaemon(loop, setup) { (now) throws(NodeError) in
            DaemonCore.Services(
                watch: JobWatch(
                    choosing: choice, collectingAs: collector, patience: wait, at: now,
                    parse: JobParameters.init(manifest:)))
        }
        daemon.onEvent = onEvent
        // It keeps nothing.
        daemon.onStore = { [unowned daemon] request, service in
            loop.soon { daemon.stored(request.ticket, .stored(path: ""), for: service) }
        }
        daemon.onEnded = { [unowned self, unowned daemon] _ in
            result = daemon.core.services.watch.flatMap { Self.result(of: $0) }
            daemon.windDown()
        }
        service.watchSignals { [unowned self, unowned daemon] in
            result = .interrupted
            daemon.stop()
        }
        let timer = EventLoop.Timer(loop) { [unowned self, unowned daemon] in
            guard daemon.core.services.watch?.record == nil else { return }
            result = .failed(
                "nobody who could be reached in \(fixed(wait.inSeconds, 0)) s has \(what). Is it a job of this pool, and has it not "
                    + "ended?")
            daemon.windDown()
        }
        patience = timer
        timer.arm(at: loop.now + wait)
        daemon.start()
        loop.run()
        timer.close()
        loop.close()
        return result ?? .failed("the loop ended before the job")
    }

    private static func result(of watch: JobWatch) -> Result? {
        switch watch.collected {
        case .weights(let states)?:
            guard let parameters = watch.record?.parameters, let weights = watch.finish?.weights else { return nil }
            return .collected(CollectedResult(parameters: parameters, states: states, weights: weights))
        case .failed(let why)?: return .failed(why)
        case nil: return watch.finish.map { .ended($0) }
        }
    }
}

/// The weights with which a job has ended, as its log says.
public struct CollectedResult: Sendable {
    public let parameters: JobParameters
    let states: [UnitState]
    /// SHA-256 of the weights.
    public let weights: Digest256

    /// Writes the checkpoint as every run ends with it.
    /// - Parameter folder: of the model that the job continued, where that is at hand.
    /// - Returns: where it is.
    public func write(to out: String, like folder: String?) throws(NodeError) -> String {
        guard let result = ModelUnits(shape: parameters.model, states: states) else {
            throw .failed("the collected weights do not fit the model")
        }
        guard result.weightsDigest == weights else {
            throw .failed("the weights that came are not those of the job's log")
        }
        var model: ContinuedModel?
        if let folder {
            do throws(CheckpointError) {
                model = try ContinuedModel(folder, shape: parameters.model)
            } catch {
                throw .badInput(error.description)
            }
        }
        return try RunEnding.write(result, to: out, like: model)
    }
}
