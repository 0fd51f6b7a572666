import ArgumentParser
import Foundation
import Node
import Planning
import Primitives
import Telemetry
import Topologies

/// `atoll demo`: the commands `node`, `peer` and `launch` arranged as processes of their own on this machine, with links and
/// devices as a topology file has them, and one peer killed half way.
struct DemoCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "demo",
        abstract: "See it work: peers on this machine find each other, train a model, lose one, finish.")

    @Option(
        help:
            "The job file (default: a byte-level Llama of about 1M parameters; as a package brings it, for about a minute)."
    )
    var job: String?
    @Option(help: "How many of the topology's peers to start.") var peers: Int?
    @Option(help: "Train this many steps instead of the job's tokens.") var steps: Int?
    @Option(help: "The topology file.") var topology: String?
    @Option(help: "The text to train on.") var data: String?
    @Flag(help: "Kill nobody.") var noKill = false
    @Option(help: "Where everything goes.") var out = "atoll-demo"
    @Flag(help: "Print the report as JSON, and nothing else on stdout.") var json = false
    @Option(help: "Seed of the job and of the links.") var seed: UInt64 = 1

    func run() throws {
        Interrupt.watch()
        let topologyPath = try topology ?? shipped("demo.yaml")
        let jobPath = try job ?? installed("Topologies/jobs/minute.yaml") ?? shipped("jobs/demo.yaml")
        var topology = try loadTopology(topologyPath)
        let host = topology.peers.count
        if let peers {
            guard peers >= 1, peers <= host else {
                throw NodeError.badInput("--peers \(peers): the topology \(topology.name) has 1 to \(host)")
            }
            let kept = Set(topology.peers.prefix(peers))
            topology = topology.keeping { topology.hosts[$0].role != .peer || kept.contains($0) }
        }
        let text = try data ?? defaultText()
        let input = try JobInput(file: jobPath, data: text, steps: steps, seed: seed)
        guard input.manifest.text.tokenizer == .byte else {
            throw NodeError.badInput("\(jobPath): the demo trains on bytes of a text; atoll launch continues models")
        }
        _ = try input.content()
        let folder = try DemoFolder(out)
        try writeFile(folder.path + "/topology.yaml", Array(topology.text.utf8))
        try writeFile(folder.path + "/job.yaml", Array(input.manifest.canonicalText.utf8))
        let demo = DemoRun(
            folder: folder.path, topology: topology.withServices(), peers: topology.peers.count,
            tokens: input.manifest.tokens,
            kill: !noKill, quiet: json, seed: seed)
        defer { demo.endAll() }
        let code = try demo.run()
        guard code == 0 else { throw ExitCode(code) }
        if json { print(String(decoding: try readFile(folder.path + "/report.json"), as: UTF8.self), terminator: "") }
    }

    /// The King James text: as packages bring it along, else printed by the program of the Debian package bible-kjv.
    private func defaultText() throws -> String {
        if let path = installed("texts/kjv.txt") { return path }
        let path = NSTemporaryDirectory() + "/atoll-kjv-\(getuid()).txt"
        if let size = try? readFile(path).count, size > 3_000_000 { return path }
        let pipe = Pipe()
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = ["bible", "-f", "gen1:1-rev22:21"]
        process.standardOutput = pipe
        process.standardError = FileHandle.nullDevice
        process.standardInput = FileHandle.nullDevice
        try? process.run()
        let data = pipe.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        guard data.count > 1_000_000 else {
            throw NodeError.badInput(
                "no text to train on: the program `bible` (Debian package bible-kjv) is not installed. Run `make setup`, or give "
                    + "any UTF-8 text with --data FILE")
        }
        try writeFile(path, [UInt8](data))
        return path
    }
}

/// A file that a package has put where its kind belongs: `share/atoll` beside the program's `bin`.
func installed(_ name: String) -> String? {
    let program = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
    let path = program.deletingLastPathComponent().deletingLastPathComponent().path + "/share/atoll/" + name
    return FileManager.default.fileExists(atPath: path) ? path : nil
}

/// A file shipped with the project: in the working folder, or beside the program's source tree.
func shipped(_ name: String) throws -> String {
    let executable = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
    var folders = [FileManager.default.currentDirectoryPath]
    var up = executable.deletingLastPathComponent()
    for _ in 0..<5 {
        folders.append(up.path)
        up.deleteLastPathComponent()
    }
    for folder in folders {
        let path = folder + "/Topologies/" + name
        if FileManager.default.fileExists(atPath: path) { return path }
    }
    if let path = installed("Topologies/" + name) { return path }
    throw NodeError.badInput("Topologies/\(name) is not to be found; run from the project's folder, or name a file")
}

/// The demo's folder: made anew each time, but never over something that is not a demo's.
struct DemoFolder {
    let path: String
    static let mark = "/.atoll-demo"

    init(_ given: String) throws {
        path = URL(fileURLWithPath: given).path
        let files = FileManager.default
        if files.fileExists(atPath: path + Self.mark) {
            try files.removeItem(atPath: path)
        } else if let entries = try? files.contentsOfDirectory(atPath: path), !entries.isEmpty {
            throw NodeError.badInput("\(given) exists and is not a demo's folder; give another with --out DIR")
        }
        try makeFolder(path)
        try writeFile(path + Self.mark, [])
    }
}
