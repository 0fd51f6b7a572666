import Foundation
import Testing
import Topologies

/// The files in `Topologies/`, found from this file's place in the package.
enum Shipped {
    static let names = ["demo", "lan", "three-homes", "campus", "two-data-centres"]
    static func bytes(_ name: String) throws -> [UInt8] {
        let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        return Array(try Data(contentsOf: root.appending(path: "Topologies/\(name).yaml")))
    }
    static func topology(_ name: String) throws -> Topology {
        try Topology(parsing: try bytes(name), file: "Topologies/\(name).yaml")
    }
}
