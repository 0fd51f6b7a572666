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
        case .roundStart(let start):
            starts[.roundStart(job: start.job, round: start.round)] = start
            for old in rounds(of: start.job).dropLast(RoundStarts.generations) {
                starts[.roundStart(job: start.job, round: old)] = nil
            }
        case .readRoundStart(let job, let round):
            guard let start = starts[.roundStart(job: job, round: round)] else { return .failed("there is none") }
            return .read(VerifiedRoundStart(start))
        case .eraseRoundStarts(let job, let after):
            for round in rounds(of: job) where round > after { starts[.roundStart(job: job, round: round)] = nil }
        default: break
        }
        return .stored(path: "")
    }
    private func rounds(of job: Digest256) -> [Int] {
        starts.values.filter { $0.job == job }.map(\.round).sorted()
    }

    /// For its next process.
    var remains: MemberRemains {
        guard disk == nil else { return disk!.memberRemains(parse: JobParameters.init(manifest:)) }
        var out = MemberRemains()
        for job in Set(starts.values.map(\.job)).sorted() {
            let stages = rounds(of: job).compactMap { starts[.roundStart(job: job, round: $0)] }.map { KeptStage($0) }
            out.jobs.append(MemberRemains.Job(job: job, stages: stages))
        }
        return out
    }
}
