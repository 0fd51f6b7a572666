import ArgumentParser
import Checkpoints
import Coordination
import Digests
import Foundation
import Node
import Primitives
import Record
import Telemetry
import Weights

/// `atoll collect JOB`: the result of a job, on the machine of whoever its manifest allows to have it.
struct CollectCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "collect",
        abstract: "Collect the result of a job of a pool, with a key that its job file names (`collectors`).",
        discussion: """
            It reads the job's log as `atoll watch` does, waits until the job is over, fetches the weights from whoever still has them (members keep \
            theirs for an hour), checks them against the log, and writes the checkpoint as `atoll launch` does. The launcher need not be there. Exit \
            codes: 0 the checkpoint is written, 1 there is none, 2 bad input, 130 interrupted.
            """)

    @Argument(help: "The job's name, or the first digits of its ID.") var job: String
    @Option(help: "The pool's invite.") var invite: String
    @Option(
        help: "The key that the job file names: a file of `atoll recovery key`, or a folder (default: the launcher's).")
    var identity: String?
    @Option(help: "Where the checkpoint goes.") var out = "out"
    @Option(help: "Of a job that continues a model: its folder, whose tokenizer and keys go with the result.")
    var model: String?
    @Option(help: "Give up when nobody tells of the job, or gives any of its weights, in this many seconds.") var wait =
        60.0
    @Option(help: "Where to listen, UDP and TCP.") var listen = "0.0.0.0:0"
    @Option(help: "Seed of timers.") var seed: UInt64?
    @OptionGroup var log: LogOptions
    @OptionGroup var screen: ScreenOptions

    func run() throws {
        let pool = try Invite(file: invite)
        guard wait > 0, wait <= 86_400 else { throw NodeError.badInput("--wait \(wait): seconds, more than 0") }
        let choice = try WatchCommand.choice(of: job)
        if let model { try Self.look(at: model) }
        let (key, folder) = try identified()
        try makeFolder(out)
        let out = URL(fileURLWithPath: out).path
        let setup = try LiveDaemon.Setup(
            through: pool, key: key, folder: folder?.path, listen: try endpoint(listen, option: "--listen"),
            emulation: nil, seed: drawnSeed(seed), tell: complain)
        switch try WatchCommand.show(
            job, setup, choosing: choice, collectingAs: key.peerID, wait: wait, try log.log())
        {
        case .interrupted: throw ExitCode(130)
        case .failed(let why): throw NodeError.failed(why)
        case .ended: throw NodeError.failed("the job is over, and nothing of it was collected")
        case .collected(let result):
            let checkpoint = try write(result, to: out)
            if !result.parameters.initialUnits.isEmpty, model == nil {
                complain(
                    "note: the job continued a model. With --model FOLDER of that one its tokenizer and keys go with the result"
                )
            }
            if !log.json { print("the job is done: weights \(result.weights.hex)\ncheckpoint \(checkpoint)") }
        }
    }

    /// What has come is written, whatever is wrong with the other folder.
    private func write(_ result: CollectedResult, to out: String) throws -> String {
        guard let model else { return try result.write(to: out, like: nil) }
        do {
            return try result.write(to: out, like: model)
        } catch {
            complain("\(error). The checkpoint is written without what is in \(model)")
            return try result.write(to: out, like: nil)
        }
    }
    /// A file is one key; a folder is a machine's, which a pool that keeps members knows.
    private func identified() throws -> (key: SigningKey, folder: DataFolder?) {
        if let identity {
            var isFolder: ObjCBool = false
            guard FileManager.default.fileExists(atPath: identity, isDirectory: &isFolder) else {
                throw NodeError.badInput(
                    "there is no \(identity): the file of a key that the job file names (`collectors`), or a folder with one"
                )
            }
            if !isFolder.boolValue { return (try DataFolder.loadKey(identity), nil) }
        }
        let folder = try launcherFolder(invite, identity: identity)
        return (folder.key, folder)
    }
    /// Before anything is waited for.
    private static func look(at folder: String) throws {
        do throws(CheckpointError) { _ = try ModelFolder(folder) } catch { throw NodeError.badInput(error.description) }
    }
}
