import ArgumentParser
import EventLoop
import Files
import Foundation
import Inference
import Node
import Primitives
import Web
import Weights

/// `atoll serve`: a model behind the interface that OpenAI's clients speak.
struct ServeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve", abstract: "Answer OpenAI-compatible requests with a model's checkpoint.",
        discussion: """
            Paths: /v1/models, /v1/completions, /v1/chat/completions, /health. Requests are answered one after the other.
            When the folder is replaced by a newer checkpoint, new requests are answered by that. Of the folder that a running job
            writes to (atoll launch --out) the newest checkpoint answers, round after round.
            """)

    @Argument(help: "A checkpoint's folder, or the --out of a job.") var checkpoint: String
    @Option(help: "The address to listen on. Anything but this machine needs a key.") var host = "127.0.0.1"
    @Option(help: "The port; 0 takes a free one.") var port: UInt16 = 8080
    @Option(help: "The file with the key that clients must give; or ATOLL_SERVE_KEY.") var keyFile: String?
    @Option(help: "The name that clients call the model by; the folder's if not given.") var name: String?
    @Option(help: "Tokens of a prompt and its answer together; the model's context, at most 4096, if not given.")
    var context: Int?
    @Option(help: "Requests that may wait.") var queue = 16
    @Option(help: "The chat template, where the folder's is not known: chatml, llama3, …") var template: String?
    @Option(help: "Seed of the draws of requests that give none; by the clock if not given.") var seed: UInt64?
    @Option(help: "Threads.") var threads = 1

    func run() throws {
        guard (1...10_000).contains(queue) else { throw NodeError.badInput("--queue \(queue): 1 to 10 000") }
        guard (1...1024).contains(threads) else { throw NodeError.badInput("--threads \(threads): 1 to 1024") }
        guard
            let endpoint = Endpoint(
                host.contains(":") && !host.hasPrefix("[") ? "[\(host)]:\(port)" : "\(host):\(port)")
        else {
            throw NodeError.badInput("--host \(host): an address, such as 127.0.0.1")
        }
        let key = try key()
        let isLocal = endpoint.isLoopback
        guard isLocal || key != nil else {
            throw NodeError.badInput(
                "--host \(host) can be reached by others: give a key (--key-file), or keep to 127.0.0.1")
        }
        Interrupt.watch()
        let (engine, options) = try load()
        let loop = Loop()
        let service = ServeService(loop, engine, options, seed: seed ?? UInt64(Date().timeIntervalSince1970 * 1e6))
        let access = WebAccess(key: key, hosts: isLocal ? WebAccess.loopbackHosts : [])
        let server: WebServer
        do throws(WebError) {
            server = try WebServer(loop, at: endpoint, access: access) { service.receive($0) }
        } catch { throw NodeError.failed(error.description) }
        let watch = FolderWatch(loop, checkpoint) { [self] in reload(service) }
        let signals = [SIGINT, SIGTERM].map { SignalWatcher(loop, signal: $0) { loop.stop() } }
        print(
            "\(options.name) at http://\(server.endpoint)/v1 (\(options.capacity) tokens\(key == nil ? "" : ", with a key"))"
        )
        fflush(nil)
        loop.run()
        watch.close()
        server.close()
        service.close()
        signals.forEach { $0.close() }
        loop.close()
    }

    private func key() throws -> String? {
        var key = ProcessInfo.processInfo.environment["ATOLL_SERVE_KEY"]
        if let keyFile {
            let bytes = try readable { () throws(FileError) in try fileContents(keyFile, limit: 4096) }
            key = String(decoding: bytes, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
        }
        guard let key else { return nil }
        guard key.utf8.count >= 16, key.utf8.allSatisfy({ $0 > 32 && $0 < 127 }) else {
            throw NodeError.badInput("the key must have at least 16 visible ASCII characters")
        }
        return key
    }

    private func load() throws -> (AnsweringEngine, ServeService.Options) {
        let loaded = try LoadedModel(checkpoint, template: template, quiet: false)
        let longest = loaded.model.shape.context
        let capacity = context ?? min(longest, 4096)
        guard (2...longest).contains(capacity) else {
            throw NodeError.badInput("--context \(capacity): 2 to \(longest)")
        }
        let engine = AnsweringEngine(loaded.model, loaded.text, capacity: capacity, threads: threads)
        let folder = URL(fileURLWithPath: checkpoint).lastPathComponent
        return (engine, ServeService.Options(name: name ?? folder, queue: queue, capacity: capacity))
    }

    /// Reads the folder that has come in place of the old one. One that cannot be read changes nothing.
    private func reload(_ service: ServeService) {
        let (path, template, capacity, threads) = (checkpoint, template, context, threads)
        service.change {
            do {
                let loaded = try LoadedModel(path, template: template, quiet: true)
                let longest = loaded.model.shape.context
                return .success(
                    AnsweringEngine(
                        loaded.model, loaded.text, capacity: min(capacity ?? 4096, longest), threads: threads))
            } catch { return .failure(error as? NodeError ?? .failed("\(error)")) }
        } then: { problem in
            complain(
                problem.map { "the newer checkpoint cannot be read, the old one goes on: \($0)" }
                    ?? "\(CheckpointFolders.newest(in: path)): a newer checkpoint answers from now on")
        }
    }
}

/// Tells when a folder was replaced by another.
private final class FolderWatch {
    private let path: String
    private let loop: Loop
    private var timer: EventLoop.Timer?
    private var last: (UInt64, Int)?
    private let changed: () -> Void

    init(_ loop: Loop, _ path: String, changed: @escaping () -> Void) {
        self.loop = loop
        self.path = path
        self.changed = changed
        last = state
        timer = EventLoop.Timer(loop) { [unowned self] in look() }
        timer?.arm(at: loop.now + .seconds(2))
    }
    func close() { timer?.close() }

    /// Which file config.json is, and when it was written.
    private var state: (UInt64, Int)? {
        var found = stat()
        guard stat(CheckpointFolders.newest(in: path) + "/config.json", &found) == 0 else { return nil }
        return (UInt64(found.st_ino), Int(found.st_mtim.tv_sec))
    }
    private func look() {
        let now = state
        if let now, let last, now != last { changed() }
        if now != nil { last = now }
        timer?.arm(at: loop.now + .seconds(2))
    }
}
