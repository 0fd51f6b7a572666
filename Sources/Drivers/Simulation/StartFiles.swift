import Membership
import Messages
import Primitives
import Record
import Training
import Wire

/// Round starts on a virtual disk: the very bytes that a live peer writes, so that a flipped bit is one and a torn file is torn.
struct StartFiles {
    private struct File {
        var name: StartName
        var bytes: [UInt8]
        var isDurable: Bool
    }
    private var files: [Digest256: [File]] = [:]
    var isEmpty: Bool { files.values.allSatisfy(\.isEmpty) }

    mutating func write(_ start: RoundStart, retaining: [StartName], isDurable: Bool) {
        var here = files[start.job, default: []].filter { $0.name != start.name && retaining.contains($0.name) }
        here.append(File(name: start.name, bytes: start.encoded!, isDurable: isDurable))
        files[start.job] = here.sorted { $0.name < $1.name }
    }
    func read(_ job: Digest256, _ name: StartName) -> StorageOutcome {
        guard let file = files[job]?.first(where: { $0.name == name }) else { return .failed("there is none") }
        do throws(MalformedBytes) {
            return .read(VerifiedRoundStart(try RoundStart(decoding: file.bytes)))
        } catch {
            return .failed(error.description)
        }
    }
    func names(of job: Digest256) -> [StartName] { files[job]?.map(\.name) ?? [] }
    /// Whether there is a file of this round, of the host's own stage or of others' units.
    func has(_ round: Int, of job: Digest256, isCopy: Bool) -> Bool {
        files[job]?.contains { $0.name.round == round && $0.name.isCopy == isCopy } ?? false
    }
    mutating func erase(_ job: Digest256, after round: Int) { files[job]?.removeAll { $0.name.round > round } }

    /// What was called durable and is not is gone, or torn.
    /// - Returns: whether there was any.
    mutating func crash(_ generator: inout SeededGenerator) -> Bool {
        var wasAny = false
        for job in files.keys.sorted() {
            for index in files[job]!.indices.reversed() where !files[job]![index].isDurable {
                wasAny = true
                if generator.below(2) == 0 {
                    files[job]!.remove(at: index)
                } else {
                    files[job]![index].bytes.removeLast(generator.below(files[job]![index].bytes.count))
                    files[job]![index].isDurable = true
                }
            }
        }
        return wasAny
    }
    mutating func flip(_ generator: inout SeededGenerator) {
        let jobs = files.keys.sorted().filter { !files[$0]!.isEmpty }
        guard !jobs.isEmpty else { return }
        let job = jobs[generator.below(jobs.count)]
        let index = generator.below(files[job]!.count)
        guard !files[job]![index].bytes.isEmpty else { return }
        files[job]![index].bytes[generator.below(files[job]![index].bytes.count)] ^= 1 << UInt8(generator.below(8))
    }

    var remains: MemberRemains {
        var out = MemberRemains()
        for job in files.keys.sorted() {
            var stages: [KeptStage] = []
            for file in files[job]! {
                switch read(job, file.name) {
                case .read(let verified):
                    stages.append(KeptStage(verified.start))
                case .failed(let why), .conflict(let why):
                    out.refused.append(MemberRemains.Refused(what: "round-\(file.name.round)", why: why))
                case .stored: break
                }
            }
            if !stages.isEmpty { out.jobs.append(MemberRemains.Job(job: job, stages: stages)) }
        }
        return out
    }
}
