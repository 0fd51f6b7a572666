public import Coordination
import Planning
public import Primitives
public import Record
public import Telemetry
import Topologies

/// One world of a storm, run: what became of it.
public struct StormRun: Sendable {
    public let script: StormScript
    /// What is wrong; nil when nothing is.
    public let violation: String?
    public let virtualSeconds: Double
    public let rounds: Int
    /// How often the launcher was started.
    public let launches: Int
    public let deliveries: Int
    /// Troubles that struck, by their word.
    public let struck: [String: Int]
    /// Events, or with `isPlay` all that was said, too.
    public let transcript: String
    /// Of all hosts, in order.
    public let events: [(host: String, event: Event)]
    public let state: JobState
    /// Micro-batches.
    public let totals: Ledger.Totals
    /// To disks, in order.
    public let writes: [DiskWrite]

    /// Runs it from beginning to end.
    public init(_ script: StormScript, bounds: StormBounds = StormBounds(), isPlay: Bool = false) {
        let watch = StormWatch(script, bounds)
        var options = WorldOptions()
        options.seed = script.seed
        options.realArithmetic = script.realArithmetic
        options.probeBytes = 64 << 10
        options.hasDisks = true
        options.electorsMayLie = script.isDrawnForElectors
        options.neededPeers = script.job.neededPeers
        options.keepsPlay = isPlay
        options.absent = Set(watch.absent.map { script.topology.hosts[$0].name })
        options.limit = .nanoseconds(Int64((script.calmFrom + bounds.ending.inSeconds + 600) * 1e9))
        let world = World(
            topology: script.topology, manifest: script.job.canonicalText, parameters: JobParameters(script.job),
            corpus: script.corpus, expectedPeers: max(1, script.topology.peers.count - watch.absent.count),
            options: options)
        world.storm = watch
        watch.begin(world)
        let end = world.run()
        self.script = script
        violation =
            watch.violation ?? StormChecks.end(world, end, watch).map { "\(fixed(world.virtualSeconds, 2)) s: \($0)" }
        virtualSeconds = world.virtualSeconds
        let coordinator = world.hasLed ? world.coordinator : nil
        rounds = coordinator?.state.seals.count ?? 0
        launches = watch.launches
        deliveries = world.deliveries
        struck = watch.struck
        transcript = world.play ?? world.transcript()
        events = world.events
        state = coordinator?.state ?? JobState(parameters: JobParameters(script.job))
        totals = coordinator?.record.ledger.totals ?? Ledger.Totals()
        writes = watch.writes
    }

    /// The same failure, with as few troubles as can be found by leaving out one after another: places in the script's list.
    public static func shrink(
        _ script: StormScript, bounds: StormBounds = StormBounds(), progress: (Int) -> Void = { _ in }
    ) -> [Int] {
        var kept = Array(script.troubles.indices)
        var place = 0
        while place < kept.count {
            var fewer = kept
            fewer.remove(at: place)
            if StormRun(script.keeping(fewer), bounds: bounds).violation != nil {
                kept = fewer
                progress(kept.count)
                // What had to stay before may be needless now.
                place = 0
            } else {
                place += 1
            }
        }
        return kept
    }
}
