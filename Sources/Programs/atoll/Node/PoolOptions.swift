import ArgumentParser
import Foundation
import Node
import Pools
import Primitives

/// Which pool a node or a tool belongs to, and whom it asks first.
struct PoolOptions: ParsableArguments {
    @Option(
        parsing: .upToNextOption,
        help: "Nodes to start from, HOST:PORT …; names are looked up until somebody knows them.")
    var bootstrap: [String] = []
    @Option(help: "The pool's name; `mainline` is open to every BEP 5 node, all others are closed to strangers.")
    var pool: String?

    static let open = "mainline"
    var isOpen: Bool { pool == Self.open }

    /// Addresses, names, and what is neither: a positional argument that stood behind the last address, say.
    func split() throws -> (endpoints: [Endpoint], names: [HostName], rest: [String]) {
        var out: (endpoints: [Endpoint], names: [HostName], rest: [String]) = ([], [], [])
        for text in bootstrap {
            if let endpoint = Endpoint(text) {
                out.endpoints.append(endpoint)
            } else if let name = HostName(text) {
                out.names.append(name)
            } else {
                out.rest.append(text)
            }
        }
        return out
    }

    /// As ``split()``, for commands without positional arguments.
    func addresses() throws -> (endpoints: [Endpoint], names: [HostName]) {
        let (endpoints, names, rest) = try split()
        if let wrong = rest.first {
            throw NodeError.badInput("--bootstrap \(wrong): HOST:PORT expected, such as 192.0.2.7:7070")
        }
        return (endpoints, names)
    }
}

/// The pools that this user made or joined by name, under `~/.atoll/pools`, so that a second node or a tool on the same
/// machine needs nothing but `--pool NAME`. Other machines get the invite file.
enum KnownPools {
    static func path(_ name: String) throws -> String {
        let allowed = name.utf8.allSatisfy {
            ($0 >= 48 && $0 <= 57) || ($0 | 32 >= 97 && $0 | 32 <= 122) || $0 == 45 || $0 == 46 || $0 == 95
        }
        guard allowed, !name.isEmpty, name.utf8.count <= 64, name.utf8.first != 46 else {
            throw NodeError.badInput("--pool \(name): up to 64 letters, digits, dots, dashes and underscores expected")
        }
        return "\(Home.path)/pools/\(name).yaml"
    }
    static func invite(_ name: String) throws -> Invite? {
        let path = try path(name)
        return FileManager.default.fileExists(atPath: path) ? try Invite(file: path) : nil
    }
    /// The invite of a pool that keeps members has no key: a member of this machine knows it.
    static func withKey(_ invite: Invite, in folder: String? = nil) throws -> Invite {
        guard let issuing = invite.issuing else { return invite }
        let names = ["node", "peer", "launcher", "node/launcher"].map { Home.path + "/" + $0 }
        for folder in [folder].compactMap({ $0 }) + names {
            guard let key = PoolEntry.poolKey(of: issuing.warrant.authority, in: folder) else { continue }
            var known = invite
            known.poolKey = key
            return known
        }
        throw NodeError.badInput(
            "pool \(invite.name) keeps members, and nobody on this machine is one. Join first (atoll peer --invite FILE), or say with "
                + "--data which member's folder to use")
    }
    static func remember(_ invite: Invite) throws {
        let path = try path(invite.name)
        try makeFolder((path as NSString).deletingLastPathComponent)
        try writeFile(path, Array(invite.text.utf8), mode: 0o600)
    }
}
