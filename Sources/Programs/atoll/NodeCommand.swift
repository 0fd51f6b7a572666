import ArgumentParser
import Digests
import Foundation
import Node
import Primitives
import Telemetry

/// `atoll node`: a bootstrap node; makes the pool and its invite on first start.
struct NodeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "node", abstract: "Run a bootstrap node: makes a pool, and prints where its invite is.")

    @Option(help: "Where to listen, UDP and TCP.") var listen = "0.0.0.0:7070"
    @Option(help: "The node's folder: key, lock, state.") var data: String?
    @Option(help: "Where to write the invite (default: in the node's folder).") var invite: String?
    @Option(help: "A name for the pool.") var pool = "pool"
    @Option(help: "Another launcher's key that peers of this pool accept; may be repeated.") var accept: [String] = []
    @Option(help: "Join the pool of this invite instead of making one.") var join: String?
    @Option(help: ArgumentHelp("Pretend to be TOPOLOGY#HOST.", visibility: .hidden)) var emulate: String?
    @Option(help: ArgumentHelp("Slow all emulated time down.", visibility: .hidden)) var stretch = 1.0
    @Option(help: "Seed of timers and emulated links.") var seed: UInt64?
    @Flag(help: "Events as JSON lines.") var json = false

    func run() throws {
        dieWithParent()
        let folder = try Home.folder(data, name: "node")
        let listen = try endpoint(listen, option: "--listen")
        let seed = drawnSeed(seed)
        let emulation = try emulation(emulate, stretch: stretch, seed: seed)
        let invitePath = invite ?? folder.path + "/invite.yaml"
        let pool = try openPool(invitePath)
        var setup = LiveDaemon.Setup(
            key: folder.key, listen: listen, poolKey: pool.poolKey, bootstrap: join == nil ? [] : pool.bootstrap,
            emulation: emulation, seed: seed)
        setup.threads = 1
        let joining = join != nil
        let asJSON = json
        let end = try ServiceRun().run(setup, folder: folder) { _ in
            .node
        } ready: { (endpoint) throws(NodeError) in
            if !joining {
                var invite = pool
                invite.bootstrap = reachable(endpoint)
                try writeFile(invitePath, Array(invite.text.utf8), mode: 0o600)
            }
            print("listening \(endpoint) id \(folder.key.peerID.hex)")
            if !joining {
                print("invite \(URL(fileURLWithPath: invitePath).path)")
                print("peers join with: atoll peer --invite \(invitePath)")
            }
            fflush(nil)
        } onEvent: { event in
            if asJSON { print(event.json) } else if event.kind != "connection_lost" { print(event.line) }
            fflush(nil)
        }
        try finish(end)
    }
}

extension NodeCommand {
    /// The pool to serve: of an invite to join, of the invite that is there already, or a new one.
    private func openPool(_ invitePath: String) throws -> Invite {
        if let join { return try Invite(file: join) }
        if FileManager.default.fileExists(atPath: invitePath) { return try Invite(file: invitePath) }
        // The key of whoever made the pool may launch jobs in it: it lies beside the invite.
        let launcher = try DataFolder.loadKey(makeLauncherFolder(beside: invitePath) + "/key")
        var accepted = [launcher.peerID]
        for hex in accept {
            guard let key = PeerID(hex: hex) else {
                throw NodeError.badInput("--accept \(hex): 64 hexadecimal digits of a launcher's key expected")
            }
            accepted.append(key)
        }
        return Invite(name: pool, poolKey: randomBytes(32), bootstrap: [], accept: accepted)
    }
}

/// The launcher's folder that belongs to an invite: beside it.
func makeLauncherFolder(beside invite: String) throws -> String {
    let path = ((invite as NSString).deletingLastPathComponent as NSString).appendingPathComponent("launcher")
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    return path
}

/// Under which addresses others can reach a listening endpoint: its own, or all of this machine's.
func reachable(_ endpoint: Endpoint) -> [Endpoint] {
    guard endpoint.address.allSatisfy({ $0 == 0 }) else { return [endpoint] }
    var out: [Endpoint] = []
    var list: UnsafeMutablePointer<ifaddrs>?
    if getifaddrs(&list) == 0 {
        var next = list
        while let entry = next {
            if let address = entry.pointee.ifa_addr, address.pointee.sa_family == sa_family_t(AF_INET) {
                let raw = address.withMemoryRebound(to: sockaddr_in.self, capacity: 1) { $0.pointee.sin_addr.s_addr }
                let bytes = withUnsafeBytes(of: raw) { [UInt8]($0) }
                if let found = Endpoint(address: bytes, port: endpoint.port), !out.contains(found) { out.append(found) }
            }
            next = entry.pointee.ifa_next
        }
        freeifaddrs(list)
    }
    return out.isEmpty ? [Endpoint(ipv4: 127, 0, 0, 1, port: endpoint.port)] : out
}

func finish(_ end: RunEnd) throws {
    switch end {
    case .done: return
    case .interrupted: throw ExitCode(130)
    case .failed(let why): throw NodeError.failed(why)
    }
}
