import Digests
import Foundation
import Node
import Primitives

/// Where things are when nobody says: under `ATOLL_HOME`, else `~/.atoll`. Without `HOME` the system's list of users says where that is; it is
/// never the folder that one happens to be in.
enum Home {
    static let path: String = {
        let environment = ProcessInfo.processInfo.environment
        if let given = environment["ATOLL_HOME"], !given.isEmpty { return given }
        if let home = environment["HOME"], !home.isEmpty { return home + "/.atoll" }
        if let user = getpwuid(geteuid()), let home = user.pointee.pw_dir, home.pointee != 0 {
            return String(cString: home) + "/.atoll"
        }
        complain(
            "atoll: this user has no home folder, so that there is no place for an identity. Name one: ATOLL_HOME=DIR")
        exit(2)
    }()

    /// The folder given, or the first of `name`, `name-2`, … that no daemon uses: several terminals on one machine just work.
    static func folder(_ given: String?, name: String) throws -> DataFolder {
        if let given { return try DataFolder(given) }
        for number in 1...64 {
            let path = Home.path + "/" + (number == 1 ? name : "\(name)-\(number)")
            guard !DataFolder.isBusy(path) else { continue }
            if number > 1 {
                complain(
                    "note: a daemon has \(Home.path)/\(name) already: this is another \(name) of this machine, with a key of its own, in \(path)"
                )
            }
            return try DataFolder(path)
        }
        throw NodeError.badInput("64 daemons run from \(Home.path) already; give this one a folder with --data DIR")
    }
}

func endpoint(_ text: String, option: String) throws -> Endpoint {
    guard let endpoint = Endpoint(text) else {
        throw NodeError.badInput("\(option) \(text): ADDRESS:PORT expected, such as 127.0.0.1:7070")
    }
    return endpoint
}

/// "FILE#HOST": this process pretends to be a host of a topology.
func emulation(_ text: String?, stretch: Double, seed: UInt64) throws -> Emulation? {
    guard let text else { return nil }
    guard let hash = text.lastIndex(of: "#") else {
        throw NodeError.badInput("--emulate \(text): TOPOLOGY#HOST expected, such as Topologies/demo.yaml#heron")
    }
    return try Emulation(
        topology: loadTopology(String(text[..<hash])), host: String(text[text.index(after: hash)...]), stretch: stretch,
        seed: seed)
}

/// A fresh seed where nobody gives one: only links' jitter and timers depend on it.
func drawnSeed(_ given: UInt64?) -> UInt64 { given ?? UInt64.random(in: 1...UInt64(UInt32.max)) }
