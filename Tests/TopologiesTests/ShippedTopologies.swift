import Foundation
import Testing
import Topologies

/// The files in `Topologies/`, found from this file's place in the package.
enum Shipped {
    private static let folder = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().appending(path: "Topologies")
    /// Every file there is.
    static let names: [String] = {
        let files = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
        return files.filter { $0.hasSuffix(".yaml") }.map { String($0.dropLast(5)) }.sorted()
    }()
    static func bytes(_ name: String) throws -> [UInt8] {
        Array(try Data(contentsOf: folder.appending(path: "\(name).yaml")))
    }
    static func topology(_ name: String) throws -> Topology {
        try Topology(parsing: try bytes(name), file: "Topologies/\(name).yaml")
    }
}
