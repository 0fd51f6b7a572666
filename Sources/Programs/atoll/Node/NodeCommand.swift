import ArgumentParser

/// `atoll node`: a bootstrap or rendezvous node, and the overlay's tools for people.
struct NodeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "node", abstract: "Run a bootstrap node, or ask the overlay something.",
        discussion: """
            Without a subcommand it runs a node until ^C: it makes a pool on first start and prints where its invite is. \
            The pool `mainline` has no key and speaks with every BEP 5 node.
            """,
        subcommands: [
            NodeRun.self, NodePut.self, NodeGet.self, NodeAnnounce.self, NodePeers.self, NodeLookup.self,
            NodeSimulate.self,
        ], defaultSubcommand: NodeRun.self)
}
