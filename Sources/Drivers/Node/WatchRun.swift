import Coordination
public import Daemon
public import Digests
import EventLoop
import Foundation
public import Membership
public import Primitives
public import Record
public import Telemetry

/// Watches a job of a pool from outside, until it ends.
public final class WatchRun {
    public enum Result {
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
    ///   - wait: how long somebody is looked for who has it.
    public func run(
        _ setup: LiveDaemon.Setup, choosing choice: @escaping JobReader.Choice, what: String, wait: Duration,
        onEvent: @escaping (Event) -> Void
    ) throws(NodeError) -> Result {
        let loop = service.loop
        let daemon = try LiveDaemon(loop, setup) { (now) throws(NodeError) in
            DaemonCore.Services(watch: JobWatch(choosing: choice, at: now, parse: JobParameters.init(manifest:)))
        }
        daemon.onEvent = onEvent
        // It keeps nothing.
        daemon.onStore = { [unowned daemon] request, service in
            loop.soon { daemon.stored(request.ticket, .stored(path: ""), for: service) }
        }
        daemon.onEnded = { [unowned self, unowned daemon] _ in
            result = daemon.core.services.watch?.finish.map { .ended($0) }
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
}
