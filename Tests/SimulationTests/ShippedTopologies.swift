import Foundation
import Topologies

extension Topology {
    /// A file of `Topologies/`, found from this file's place in the package.
    static func shipped(_ name: String) throws -> Topology {
        let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        let file = "Topologies/\(name).yaml"
        return try Topology(parsing: Array(try Data(contentsOf: root.appending(path: file))), file: file)
    }
}
