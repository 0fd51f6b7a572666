import ArgumentParser
import Coordination
import Digests
import Foundation
import Node
import Planning
import Primitives
import Record
import Telemetry
import Topologies
import Wire

extension TopologyCommand {
    /// `atoll topology measure`: what a launcher would find in a live pool, as a file that `plan` and `replay` take.
    struct Measure: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Measure a live pool: its peers' speeds, lines and round trips, as a topology file.")

        @Option(help: "The pool's invite.") var invite: String
        @Option(help: "A bootstrap node, beside those in the invite; may be repeated.") var bootstrap: [String] = []
        @Option(help: "Ask peers for this job, instead of one that trains nothing.") var job: String?
        @Option(help: "Begin when this many peers have accepted (default: when nobody new comes).") var peers: Int?
        @Option(help: "Give up when nobody comes in this many seconds.") var wait = 60.0
        @Option(help: "The launcher's folder with its key.") var identity: String?
        @Option(help: "Where to listen, UDP and TCP.") var listen = "0.0.0.0:0"
        @Option(help: "Where the YAML goes (default: stdout).") var out: String?
        @Option(help: "Seed of timers.") var seed: UInt64?

        func run() throws {
            let invite = try Invite(file: invite)
            let listen = try endpoint(listen, option: "--listen")
            guard wait > 0, wait <= 86_400 else { throw NodeError.badInput("--wait \(wait): seconds, more than 0") }
            if let peers, peers < 1 { throw NodeError.badInput("--peers \(peers): at least 1") }
            let nodes = try invite.bootstrap + bootstrap.map { try endpoint($0, option: "--bootstrap") }
            guard !nodes.isEmpty || !invite.names.isEmpty else {
                throw NodeError.badInput("\(self.invite) names no bootstrap node; give one with --bootstrap HOST:PORT")
            }
            if let out { try requireWritable(out, for: "--out") }
            let text: String
            if let job {
                text = String(decoding: try readFile(job, limit: 1 << 20), as: UTF8.self)
            } else {
                text = MeasureRun.manifest
            }
            let manifest: JobManifest
            do throws(ManifestError) {
                manifest = try JobManifest(parsing: text, file: job ?? "measure")
            } catch {
                throw NodeError.badInput("\(error)")
            }
            let folder = try launcherFolder(self.invite, identity: identity)
            var options = CoordinatorOptions()
            options.expectedPeers = peers
            options.gatherLimit = .nanoseconds(Int64(wait * 1e9))
            var met = invite
            met.bootstrap = nodes
            let setup = try LiveDaemon.Setup(
                through: met, key: folder.key, folder: folder.path, listen: listen, emulation: nil,
                seed: drawnSeed(seed), tell: complain)
            // Any text will do: nobody trains on it.
            let content = [UInt8](repeating: 32, count: 64 << 10)
            var signed = manifest
            signed.data = .content(ContentIndex(of: content).id.hex)
            let result = try MeasureRun().run(
                setup, manifest: signed.canonicalText, content: StoredBytes(content),
                options: options
            ) { event in
                if let sentence = event.sentence {
                    Output.note(sentence + "\n")
                }
            }
            switch result {
            case .interrupted: throw ExitCode(130)
            case .failed(let why): throw NodeError.failed(why)
            case .measured(let topology):
                guard let out else { return print(topology.text, terminator: "") }
                try writeFile(out, Array(topology.text.utf8))
                print("\(out): \(topology.peers.count) peers measured")
            }
        }
    }
}
