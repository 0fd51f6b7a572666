import Datasets
import Files
import Foundation
import Node
import Tokenizers

/// Texts, rows and folders of them, as tokens.
struct DataInput {
    /// A file that is read, and how.
    struct Item {
        enum Kind { case text, rows }
        var path: String
        var kind: Kind
        var bytes: Int
    }
    let items: [Item]
    var bytes: Int { items.reduce(0) { $0 + $1.bytes } }

    static let textEndings = [".txt", ".text", ".md"]
    static let rowEndings = [".jsonl", ".ndjson"]

    /// Files as they are; of folders, and folders in them, the texts and rows, in the order of their names.
    init(_ paths: [String]) throws {
        var items: [Item] = []
        for path in paths {
            if isFolder(path) {
                let before = items.count
                try Self.add(folder: path, to: &items, depth: 0)
                guard items.count > before else {
                    throw NodeError.badInput(
                        "\(path): no file that ends in \((Self.textEndings + Self.rowEndings).joined(separator: ", "))")
                }
            } else {
                items.append(try Self.item(path))
            }
        }
        self.items = items
    }

    private static func kind(_ path: String) -> Item.Kind? {
        let name = path.lowercased()
        if rowEndings.contains(where: { name.hasSuffix($0) }) { return .rows }
        return textEndings.contains { name.hasSuffix($0) } ? .text : nil
    }

    private static func item(_ path: String) throws -> Item {
        let size = try readable { () throws(FileError) in try FileReader(path).count }
        return Item(path: path, kind: kind(path) ?? .text, bytes: size)
    }

    private static func add(folder: String, to items: inout [Item], depth: Int) throws {
        guard depth < 32 else { throw NodeError.badInput("\(folder): folders within folders within folders") }
        for name in try readable({ () throws(FileError) in try folderContents(folder) }) where !name.hasPrefix(".") {
            let path = folder + "/" + name
            if isFolder(path) {
                try add(folder: path, to: &items, depth: depth + 1)
            } else if kind(name) != nil {
                items.append(try item(path))
            }
        }
    }

    /// Tokenizes everything; `take` is given the tokens' bytes as they come, and how many bytes were read, and may answer false
    /// to stop. False if it did.
    func encode(
        _ encoder: DocumentEncoder, into builder: inout TokenFileBuilder,
        take: (_ builder: inout TokenFileBuilder, _ done: Int) -> Bool
    ) throws -> Bool {
        var done = 0
        for item in items {
            let file = try readable { () throws(FileError) in try MappedFile(item.path) }
            var goesOn = true
            switch item.kind {
            case .text:
                file.withOctets { text in
                    var released = 0
                    encoder.append(text: text, to: &builder) { bytes, builder in
                        file.release(released..<bytes)
                        released = bytes
                        goesOn = take(&builder, done + bytes)
                        return goesOn
                    }
                }
            case .rows:
                try file.withOctets { text in
                    goesOn = try rows(text, item.path, encoder, &builder) { take(&$0, done + $1) }
                }
            }
            guard goesOn else { return false }
            done += item.bytes
            guard take(&builder, done) else { return false }
        }
        return true
    }

    private func rows(
        _ text: UnsafeBufferPointer<UInt8>, _ path: String, _ encoder: DocumentEncoder,
        _ builder: inout TokenFileBuilder,
        _ take: (inout TokenFileBuilder, Int) -> Bool
    ) throws -> Bool {
        var start = 0
        var line = 0
        var told = 0
        while start < text.count {
            line += 1
            let end = text[start...].firstIndex(of: 10) ?? text.count
            var row = text[start..<end]
            while let last = row.last, last == 13 || last == 32 || last == 9 { row = row.dropLast() }
            if !row.isEmpty {
                do throws(DatasetError) {
                    let parsed = try DataRow(parsing: UnsafeBufferPointer(rebasing: row), path: path, line: line)
                    try encoder.append(parsed, to: &builder, path: path, line: line)
                } catch { throw NodeError.badInput(error.description) }
            }
            start = end + 1
            if start - told > 1 << 20 {
                told = start
                guard take(&builder, start) else { return false }
            }
        }
        return true
    }
}

/// Runs `body`; what is wrong with data becomes bad input.
func data<T>(_ body: () throws(DatasetError) -> T) throws -> T {
    do throws(DatasetError) { return try body() } catch { throw NodeError.badInput(error.description) }
}
