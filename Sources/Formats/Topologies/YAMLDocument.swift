internal import Yams

/// A YAML file some of whose values are replaced before it is read: what a sweep does to topologies and jobs.
///
/// A path names a value: keys of mappings, and of lists an entry's `name`, its place from 0, or `*` for all of them, with dots between:
/// `hosts.heron.up_mbps`, `region_links.0.latency_ms`, `parallel.inner_steps`. Whether what comes out is a topology or a job, their readers say.
package struct YAMLDocument {
    private var root: Node

    /// - Throws: ``FileProblem`` where it is not YAML, or more of it than anybody needs.
    package init(parsing bytes: [UInt8], file: String) throws(FileProblem) {
        root = try YAMLNode(parsing: bytes, file: file).content
    }

    /// The file, its comments left out; reads back with the same values.
    package var text: String { (try? serialize(node: root, width: -1, allowUnicode: true)) ?? "" }

    /// - Throws: ``FileProblem`` at `value`'s place, where the path leads nowhere.
    package mutating func set(_ path: String, to value: YAMLNode) throws(FileProblem) {
        root = try replaced(root, path[...], path, value)
    }

    private func replaced(
        _ node: Node, _ rest: Substring, _ path: String, _ value: YAMLNode
    ) throws(FileProblem) -> Node {
        if rest.isEmpty { return value.content }
        if case .sequence(let entries) = node { return try replaced(entries, rest, path, value) }
        let key = rest.prefix { $0 != "." }
        let after = rest.dropFirst(key.count + 1)
        guard !key.isEmpty, rest.count != key.count + 1 else {
            throw value.problem(.unknownName, found: "the path \(path)", allowed: "names with one dot between")
        }
        // A mapping that was left out begins empty; whether it may have that key its reader says.
        var mapping: Node.Mapping
        switch node {
        case .mapping(let known): mapping = known
        case .scalar(let scalar) where scalar.string.isEmpty: mapping = [:]
        default:
            throw value.problem(
                .unknownName, found: "the path \(path)",
                allowed: "keys that are there: before \(key) comes a plain value")
        }
        let found = mapping.first { $0.key.scalar?.string == String(key) }
        let place = found?.key ?? Node(String(key))
        mapping[place] = try replaced(found?.value ?? Node(""), after, path, value)
        return .mapping(mapping)
    }

    private func replaced(
        _ entries: Node.Sequence, _ rest: Substring, _ path: String, _ value: YAMLNode
    ) throws(FileProblem) -> Node {
        var out = entries
        let first = rest.prefix { $0 != "." }
        if first == "*" {
            for index in out.indices { out[index] = try replaced(out[index], rest.dropFirst(2), path, value) }
            return .sequence(out)
        }
        if let index = Int(first), out.indices.contains(index) {
            out[index] = try replaced(out[index], rest.dropFirst(first.count + 1), path, value)
            return .sequence(out)
        }
        // Names may have dots: the longest that fits.
        let names = out.map { $0["name"]?.scalar?.string ?? "" }
        let fitting = names.indices.filter { !names[$0].isEmpty && (rest + ".").hasPrefix(names[$0] + ".") }
        guard let index = fitting.max(by: { names[$0].count < names[$1].count }) else {
            let known = names.filter { !$0.isEmpty }
            let meant = nearest(to: String(first), among: Array(known.prefix(2000)))
            throw value.problem(
                .unknownName, found: "\(first) in the path \(path)",
                allowed: meant.map { "did you mean \($0)?" } ?? "an entry's name, its place from 0, or * for all")
        }
        out[index] = try replaced(out[index], rest.dropFirst(names[index].count + 1), path, value)
        return .sequence(out)
    }
}
