import Coordination
import Daemon
import Digests
import EventLoop
import Foundation
import Primitives
import Record
import Telemetry

/// What a peer has given: of the job in progress each round as it is sealed, as an event; of those before, the sum that their logs in its folder say.
final class GivenWork {
    private weak var daemon: LiveDaemon?
    private let folder: String
    private var isReading = false
    private var last: DaemonStatus.Work?
    /// Where damage was found, by log.
    private var told: [String: Int] = [:]
    /// Of all jobs whose logs are in the folder; nil before they are read.
    private(set) var status: GivenStatus?

    init(_ daemon: LiveDaemon, in folder: String) {
        self.daemon = daemon
        self.folder = folder
        read()
    }
    /// A job is over here: its log is complete, or stays as it is.
    func hear(_ event: Event) { if case .jobReleased = event.what { read() } }

    /// Logs may be long: off the loop.
    private func read() {
        guard let daemon, !isReading else { return }
        isReading = true
        let folder = folder
        daemon.offLoop({ try? WorkBook.all(in: folder, parse: JobParameters.init(manifest:)) }) { [weak self] books in
            guard let self else { return }
            isReading = false
            guard let books else { return }
            status = GivenStatus(books)
            for book in books { tell(book) }
        }
    }
    /// What a log does not say any more is missing in what is given: once a process, and where it changes.
    private func tell(_ book: WorkBook) {
        guard let unread = book.unread, !unread.isTorn, told[book.log] != unread.byte, let daemon else { return }
        told[book.log] = unread.byte
        daemon.onEvent?(
            Event(
                .logDamaged(path: book.log, byte: unread.byte, lost: unread.entries, why: unread.why),
                at: daemon.loop.now))
    }
    /// Once a second: rounds that were sealed since.
    func look() {
        guard let daemon, let member = daemon.core.status(at: daemon.loop.now).member else { return }
        guard let work = member.work, let round = member.round, round > 0 else { return last = nil }
        defer { last = work }
        guard let before = last, work.tokens > before.tokens else { return }
        let all = work.microBatches
        daemon.onEvent?(
            Event(
                .roundCounted(
                    round: round - 1, tokens: work.tokens, trainLoss: work.trainLoss, seconds: work.roundSeconds,
                    counted: all.counted, wasted: all.late + all.lost + all.superseded), at: daemon.loop.now))
    }
}

/// What the logs in a peer's folder say that it has given. Its JSON is described in docs/STATUS.md.
public struct GivenStatus: Codable, Hashable, Sendable {
    public var jobs: Int
    /// Micro-batches.
    public var counted: Int
    public var late: Int
    public var lost: Int
    public var superseded: Int
    public var ended: Int { counted + late + lost + superseded }

    init(_ books: [WorkBook]) {
        var sum = WorkBook.Totals()
        let worked = books.filter { !$0.endings.isEmpty }
        for book in worked { sum.add(book.totals) }
        jobs = Set(worked.map { $0.job }).count
        (counted, late, lost, superseded) = (sum.counted, sum.late, sum.lost, sum.superseded)
    }
}
