import Consensus
public import Coordination
import Daemon
import Digests
import EventLoop
import Foundation
internal import Membership
import Planning
import Primitives
import Record
public import Telemetry
public import Topologies
import Training
public import Wire

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
        _ setup: LiveDaemon.Setup, manifest: String, content: StoredBytes, options: CoordinatorOptions,
        onEvent: @escaping (Event) -> Void
    ) throws(NodeError) -> Result {
        let loop = service.loop
        let daemon = try LiveDaemon(loop, setup) { (now) throws(NodeError) in
            try .coordinator(key: setup.key, manifest: manifest, content: content, options: options, at: now)
        }
        daemon.onEvent = onEvent
        daemon.onQuestion = { [unowned self] question in
            topology = question.topology.withUsableNames()
            return NoPlan("it was only measured")
        }
        // Nothing of it is kept.
        daemon.onStore = { [unowned daemon] request, service in
            loop.soon { daemon.stored(request.ticket, .stored(path: ""), for: service) }
        }
        daemon.onEnded = { [unowned self, unowned daemon] end in
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

extension DaemonCore.Services {
    /// A coordinator with the time of day and a nonce of this machine.
    /// - Parameters:
    ///   - initial: the units that the job begins with, where the manifest names them.
    ///   - remains: of an earlier process, to go on with.
    ///   - isCarriedByMany: several machines carry the record; the launcher's is one.
    ///   - ballot: what an earlier process has promised.
    static func coordinator(
        key: SigningKey, manifest: String, content: StoredBytes, initial: [UnitState] = [], options: CoordinatorOptions,
        resuming remains: JobRemains? = nil, isCarriedByMany: Bool = false, ballot: Ballot? = nil, at now: Instant
    ) throws(NodeError) -> DaemonCore.Services {
        do throws(MalformedBytes) {
            let wall = WallClock(seconds: Int64(time(nil)), at: now)
            if isCarriedByMany {
                return DaemonCore.Services(
                    elector: try elector(
                        key: key, manifest: manifest, content: content, initial: initial, options: options, remains,
                        ballot,
                        wall, at: now))
            }
            let coordinator =
                if let remains {
                    try Coordinator(
                        key: key, resuming: remains, content: content, initial: initial, options: options, wall: wall,
                        at: now, parse: JobParameters.init(manifest:))
                } else {
                    try Coordinator(
                        key: key, manifest: manifest, content: content, initial: initial, nonce: randomBytes(32),
                        options: options, wall: wall, at: now, parse: JobParameters.init(manifest:))
                }
            return DaemonCore.Services(coordinator: coordinator)
        } catch {
            throw .badInput("the job cannot be launched: \(error)")
        }
    }
    /// What founds a job anew, and then leads it.
    static func refounding(
        key: SigningKey, manifest: String, content: StoredBytes, initial: [UnitState], options: CoordinatorOptions,
        _ remains: JobRemains?, _ certificate: Certificate?, _ grant: RecoveryGrant?, at now: Instant
    ) throws(NodeError) -> DaemonCore.Services {
        guard let index = ContentIndex(of: content) else { throw .badInput("the job's text cannot be read any more") }
        let own = Refounding.Own(
            key: key, manifest: manifest, content: index.id, log: remains?.log ?? [],
            certificate: certificate, grant: grant)
        let provisions = ElectorDesk.Provisions(
            content: content, initial: initial, checkpoint: remains?.checkpoint, options: options,
            wall: WallClock(seconds: Int64(time(nil)), at: now))
        return DaemonCore.Services(
            foundation: DaemonCore.Services.Foundation(
                Refounding(own, patience: options.gatherLimit, at: now, parse: JobParameters.init(manifest:)),
                provisions,
                receipts: remains?.receipts ?? [], parse: JobParameters.init(manifest:)))
    }
    private static func elector(
        key: SigningKey, manifest: String, content: StoredBytes, initial: [UnitState], options: CoordinatorOptions,
        _ remains: JobRemains?, _ ballot: Ballot?, _ wall: WallClock, at now: Instant
    ) throws(MalformedBytes) -> ElectorDesk {
        let provisions = ElectorDesk.Provisions(
            content: content, initial: initial, checkpoint: remains?.checkpoint, options: options, wall: wall)
        guard let remains else {
            return try ElectorDesk(
                founding: manifest, content: content, nonce: randomBytes(32), key: key, provisions: provisions, at: now,
                parse: JobParameters.init(manifest:))
        }
        return try ElectorDesk(
            restoring: remains, ballot: ballot, key: key, provisions: provisions, at: now,
            parse: JobParameters.init(manifest:))
    }
}
