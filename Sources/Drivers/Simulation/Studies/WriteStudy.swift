public import Primitives
import Record
import Telemetry
import Topologies
import Training

/// Every single write of a small job goes wrong once, in each way that disks know: what comes of the job, and whether somebody is told.
///
/// What was flipped in a log or a list of receipts is noticed by the next process that reads it: one begins three seconds later.
public struct WriteStudy: Sendable {
    public struct Outcome: Sendable {
        public var write: DiskWrite
        public var how: VirtualDisk.BadWrite
        /// Why the job did not end as it must; nil: it did.
        public var violation: String?
        /// Its host said so.
        public var isTold: Bool
    }
    public let outcomes: [Outcome]
    /// Of the job to which nothing happens.
    public let writes: Int
    public let problem: String?

    /// - Parameters:
    ///   - isSample: one write of each kind and host only.
    ///   - told: after each.
    public init(seed: UInt64, isSample: Bool = false, told: (Outcome) -> Void = { _ in }) {
        let script = StormScript.study(
            peers: 2, pipelines: 2, stages: 1, innerSteps: 1, rounds: 5, seed: seed, checkpointEvery: 2)
        let calm = StormRun(script)
        problem = calm.violation
        writes = calm.writes.count
        var seen: Set<[String]> = []
        var outcomes: [Outcome] = []
        for write in calm.writes where !isSample || seen.insert([write.host, write.kind]).inserted {
            for how in VirtualDisk.BadWrite.allCases where how != .flips || write.canFlip {
                let outcome = Self.outcome(script, write, how)
                outcomes.append(outcome)
                told(outcome)
            }
        }
        self.outcomes = outcomes
    }

    private static func outcome(_ script: StormScript, _ write: DiskWrite, _ how: VirtualDisk.BadWrite) -> Outcome {
        var script = script
        let host = script.topology.hosts.firstIndex { $0.name == write.host }!
        script.troubles = [script.trouble(.badWrite(number: write.number, how), host, from: 0, until: 0)]
        // What is not read back at once is read by the next process.
        let isReadLater = how == .flips && !write.isReadBack
        if isReadLater {
            script.troubles.append(
                script.trouble(.crash(otherPort: false), host, from: write.at + 3, until: write.at + 5))
        }
        let run = StormRun(script)
        let isTold = run.events.contains { said in
            said.host == write.host && said.event.at.seconds >= write.at - 0.001 && Self.words.contains(said.event.kind)
        }
        return Outcome(write: write, how: how, violation: run.violation, isTold: isReadLater || isTold)
    }
    private static let words: Set = ["storage_failed", "checkpoint_failed", "round_start_failed"]
}

/// Something that a disk was given to keep.
public struct DiskWrite: Hashable, Sendable {
    public var host: String
    /// Among those of its disk, from 0.
    public var number: Int
    /// Virtual seconds.
    public var at: Double
    public var kind: String

    init?(_ request: StorageRequest, host: String, number: Int, at: Double) {
        guard let kind = request.kindOfWrite else { return nil }
        self.host = host
        self.number = number
        self.at = at
        self.kind = kind
    }
    /// As live: it is compared right after it was written.
    var isReadBack: Bool { kind == "checkpoint" || kind == "round start" || kind == "copy" }
    /// Chunks and certificates are not read by the swarm's cores.
    var canFlip: Bool { kind != "chunk" && kind != "certificate" }
}

extension StorageRequest {
    /// Nil for what writes nothing new.
    var kindOfWrite: String? {
        switch self {
        case .entry: "log entry"
        case .receipt: "receipt"
        case .ballot: "ballot"
        case .certificate: "certificate"
        case .chunk: "chunk"
        case .checkpoint: "checkpoint"
        case .roundStart(let start, _): start.isCopy ? "copy" : "round start"
        case .truncate, .contradiction, .readRoundStart, .eraseRoundStarts, .setLogAside, .erase: nil
        }
    }
}
