import Channels
import Coordination
import Exchange
import Links
import Planning
public import Primitives
import Record
import Telemetry
import Topologies
import Wire

/// What carrying the record costs on the lines, in a job of many pipelines and units: bytes of the log, and of all that is said to lead it.
public struct TrafficStudy: Sendable {
    public let members: Int
    public let units: Int
    public let rounds: Int
    /// Entries that rounds add to the log: seals and what holders agreed on, with their signatures.
    public let logBytes: Int
    /// Of all messages on the channel of commands, reports, entries and votes, and of all messages.
    public let controlBytes: Int
    public let allBytes: Int
    /// What is wrong.
    public let problem: String?

    public var logBytesPerRoundAndMember: Double { Double(logBytes) / Double(max(1, rounds * members)) }
    public var controlShare: Double { Double(controlBytes) / Double(max(1, allBytes)) }

    /// - Parameters:
    ///   - pipelines: of one stage each, which holds all units: so are the fewest members for that many entries.
    ///   - layers: units are two more.
    ///   - electors: that carry the record.
    public init(pipelines: Int, layers: Int, electors: Int, rounds: Int, seed: UInt64) {
        let job = Self.job(pipelines: pipelines, layers: layers, electors: electors, rounds: rounds)
        var hosts = (0..<pipelines).map {
            Host(name: "peer-\($0)", flops: 2e11, memory: .mebibytes(8192), up: .megabits(50), down: .megabits(200))
        }
        hosts.append(
            Host(
                name: "desk", role: .coordinator, flops: 1e9, memory: .mebibytes(1024), up: .megabits(50),
                down: .megabits(200)))
        var options = WorldOptions()
        options.seed = seed
        options.probeBytes = 64 << 10
        options.hasDisks = true
        options.countsTraffic = true
        let world = World(
            topology: Topology(name: "traffic", hosts: hosts, defaultLink: LinkProperties(latency: .milliseconds(20))),
            manifest: job.canonicalText, parameters: JobParameters(job), corpus: StormScript.studyText, options: options
        )
        let end = world.run()
        let record = world.coordinator.record
        var logBytes = 0
        for envelope in record.envelopes {
            switch PBLogEntry(encoded: [UInt8](envelope.body))?.body {
            case .seal?, .states?: logBytes += envelope.encoded.count
            default: break
            }
        }
        if case .failed(let why) = end { problem = why } else { problem = nil }
        self.logBytes = logBytes
        members = pipelines
        units = job.model.unitCount
        self.rounds = record.state.seals.count
        controlBytes = world.traffic.map { $0[.control] } ?? 0
        allBytes = world.traffic?.total ?? 0
    }

    /// Rounds of about a minute, exchanged as a job over home lines would: the largest sixty-fourth of the changes.
    private static func job(pipelines: Int, layers: Int, electors: Int, rounds: Int) -> JobManifest {
        let model = ModelShape(
            hiddenSize: 256, layers: layers, heads: 4, kvHeads: 4, intermediateSize: 704, context: 128)
        let batch = pipelines * 4 * 128
        var job = JobManifest(
            name: "traffic", model: model, data: .path("text"), tokens: batch * 20 * rounds, validationFraction: 0.1,
            virtualPipelines: pipelines, microBatch: 4)
        job.batchTokens = .fixed(batch)
        job.pipelines = .fixed(pipelines)
        job.stages = .fixed(1)
        job.innerSteps = .fixed(20)
        job.exchangeCodec = .fixed(.sparse(k: 64))
        job.exchangeWay = .fixed(.allGather)
        job.exchangeDelay = .fixed(0)
        job.qualityBudget = 10
        job.checkpoint.everyRounds = 1_000_000
        job.electors.count = .fixed(electors)
        return job
    }
}
