public import Lending
import Primitives

/// What the threads of this process have had of the processors, and waited for (sched-stats.rst: `/proc/PID/schedstat`, the first two numbers of each
/// thread, nanoseconds). Threads that have ended stay counted as they were when they were seen last.
public final class ProcessorMeter: @unchecked Sendable {
    private let files: SensorFiles
    private var known: [String: (ran: Int64, waited: Int64)] = [:]
    private var sum: (ran: Int64, waited: Int64) = (0, 0)

    /// - Parameter root: before `/proc`; empty for this machine.
    public init(root: String = "") { files = SensorFiles(root: root) }

    /// How many processors there are; one at least.
    public var processors: Int {
        let lines = files.text("/proc/stat")?.split(separator: "\n") ?? []
        return max(1, lines.count { $0.hasPrefix("cpu") && $0.dropFirst(3).first?.isNumber == true })
    }
    /// Off the loop, one reading at a time.
    public func read() -> Reading<ProcessorTime> {
        let threads: [String]
        switch files.names("/proc/self/task") {
        case .success(let found): threads = found
        case .failure(let unread): return .unknown(unread.why)
        }
        var look = SensorFiles.Look(files)
        var isCounted = false
        for thread in threads {
            let text = look.text("/proc/self/task/\(thread)/schedstat")
            let parts = (text ?? "").split(separator: " ").prefix(2).compactMap { Int64($0) }
            // It may have ended meanwhile.
            guard parts.count == 2, parts[0] >= 0, parts[1] >= 0 else { continue }
            isCounted = true
            // A number that is given to another thread begins anew.
            var last = known[thread] ?? (ran: 0, waited: 0)
            if last.ran > parts[0] || last.waited > parts[1] { last = (0, 0) }
            sum = (sum.ran &+ parts[0] &- last.ran, sum.waited &+ parts[1] &- last.waited)
            known[thread] = (parts[0], parts[1])
        }
        guard isCounted else {
            return .unknown(look.blind ?? "the kernel does not say how long a thread has waited for a processor")
        }
        if known.count > 4096 { known = known.filter { threads.contains($0.key) } }
        return .value(ProcessorTime(ran: .nanoseconds(sum.ran), waited: .nanoseconds(sum.waited)))
    }
}
