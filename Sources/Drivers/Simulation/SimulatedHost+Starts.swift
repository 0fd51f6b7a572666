import Coordination
import Membership
import Messages
import Primitives
import Record
import Training

/// Round starts of a host whose disk keeps what it is given, at once, and never fails.
extension SimulatedHost {
    func keep(_ request: StorageRequest) -> StorageOutcome {
        switch request {
        case .roundStart(let start, let retaining):
            starts[.roundStart(job: start.job, start.name)] = start
            for old in names(of: start.job) where old != start.name && !retaining.contains(old) {
                starts[.roundStart(job: start.job, old)] = nil
            }
        case .readRoundStart(let job, let name):
            guard let start = starts[.roundStart(job: job, name)] else { return .failed("there is none") }
            return .read(VerifiedRoundStart(start))
        case .eraseRoundStarts(let job, let after):
            for name in names(of: job) where name.round > after { starts[.roundStart(job: job, name)] = nil }
        default: break
        }
        return .stored(path: "")
    }
    private func names(of job: Digest256) -> [StartName] {
        starts.values.filter { $0.job == job }.map(\.name).sorted()
    }

    /// For its next process.
    var remains: MemberRemains {
        guard disk == nil else { return disk!.memberRemains(parse: JobParameters.init(manifest:)) }
        var out = MemberRemains()
        for job in Set(starts.values.map(\.job)).sorted() {
            let stages = names(of: job).compactMap { starts[.roundStart(job: job, $0)] }.map { KeptStage($0) }
            out.jobs.append(MemberRemains.Job(job: job, stages: stages))
        }
        return out
    }
}
