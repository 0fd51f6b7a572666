import ArgumentParser
import Coordination
import Digests
import Foundation
import Membership
import Node
import Primitives
import Record
import Telemetry

/// `atoll watch JOB`: a launcher's screen, anywhere in the pool.
struct WatchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "watch", abstract: "Watch a job of a pool from anywhere; closing it changes nothing.",
        discussion: """
            It reads the job's log from peers that have it, and shows what `atoll launch` shows. It ends when the job ends. Exit codes: 0 the job is \
            done, 1 it ended otherwise or nobody has it, 130 interrupted.
            """)

    @Argument(help: "The job's name, or the first digits of its ID.") var job: String
    @Option(help: "The pool's invite.") var invite: String
    @Option(help: "Give up when nobody tells of the job in this many seconds.") var wait = 60.0
    @Option(help: "Where to listen, UDP and TCP.") var listen = "0.0.0.0:0"
    @Option(help: "Seed of timers.") var seed: UInt64?
    @OptionGroup var log: LogOptions
    @OptionGroup var screen: ScreenOptions

    func run() throws {
        let invite = try Invite(file: invite)
        guard wait > 0, wait <= 86_400 else { throw NodeError.badInput("--wait \(wait): seconds, more than 0") }
        let choice = try Self.choice(of: job)
        // A fresh key each time: a watcher is nobody's member. Where members are kept it is one, and stays it.
        let folder = invite.issuing == nil ? nil : try Home.folder(nil, name: "watcher")
        if let folder, !isThere(folder.path + "/" + PoolEntry.file) {
            complain(
                "note: whoever watches a pool that keeps members is one of them: this takes one of the invite's uses, once. Its identity is in "
                    + "\(folder.path), and the next screen has it again")
        }
        let setup = try LiveDaemon.Setup(
            through: invite, key: folder?.key ?? SigningKey(seed: randomBytes(32))!, folder: folder?.path,
            listen: try endpoint(listen, option: "--listen"), emulation: nil, seed: drawnSeed(seed), tell: complain)
        switch try Self.show(job, setup, choosing: choice, wait: wait, try log.log()) {
        case .interrupted: throw ExitCode(130)
        case .failed(let why): throw NodeError.failed(why)
        case .collected: break
        case .ended(let finish):
            guard finish.reason == Finish.done else { throw NodeError.failed("the job has ended: \(finish.reason)") }
            if !log.json { print("the job is done" + (finish.weights.map { ": weights \($0.hex)" } ?? "")) }
        }
    }

    /// Watches a job on this terminal until it ends, or as JSON lines.
    /// - Parameters:
    ///   - collector: whose key collects the result then; nil: nobody's.
    ///   - wait: gives up when nobody tells of it for so many seconds.
    static func show(
        _ job: String, _ setup: LiveDaemon.Setup, choosing choice: @escaping JobReader.Choice,
        collectingAs collector: PeerID? = nil, wait: Double, _ log: EventLog
    ) throws -> WatchRun.Result {
        let view = ProgressView(quiet: log.asJSON, log: log, subject: .init(name: job), readsHistory: true)
        defer { view.end() }
        return try WatchRun().run(
            setup, choosing: choice, collectingAs: collector, what: "job \(escaped(job))",
            wait: .nanoseconds(Int64(wait * 1e9))
        ) { event in
            if !log.asJSON { return view.show(event) }
            if let line = log.line(event) { log.say(line, event.level) }
        }
    }
    /// By the job's name, or the first digits of its ID.
    static func choice(of job: String) throws -> JobReader.Choice {
        guard !job.isEmpty else { throw NodeError.badInput("the job's name, or the first digits of its ID, expected") }
        let digits = job.lowercased()
        return { id, genesis, _ in
            if digits.count >= 4, id.hex.hasPrefix(digits) { return true }
            return (try? JobParameters(manifest: genesis.manifest))?.name == job
        }
    }
}
