"""Lists and calls the tools of a VM, or those of Nexus for the VM web, with the Python SDK of MCP. Prints the revision of the
protocol that they speak, and the name that the VM has for itself. Arguments: the server's command line."""

import asyncio
import sys

from mcp import StdioServerParameters


IN_A_VM = ["file_read", "file_write", "file_delete", "run_command"]
OF_NEXUS = ["vm_list", "vm_create", "vm_start", "vm_stop", "vm_delete", "vm_exec", *IN_A_VM[:3], "image_list"]


async def use(call, names):
    heard = []

    async def progress(done, _total, message):
        heard.append((done, message))

    if names == IN_A_VM:
        run, which = "run_command", {}
    else:
        assert names == OF_NEXUS, names
        run, which = "vm_exec", {"vm": "web"}
        assert [vm["name"] for vm in (await call("vm_list", {}))["vms"]] == ["web"]
        await call("vm_start", which)
    written = await call("file_write", {**which, "path": "/tmp/note", "content": "hello", "create_folders": True})
    assert written["created"] is True, written
    read = await call("file_read", {**which, "path": "/tmp/note"})
    assert read["content"] == "hello", read
    ran = await call(run, {**which, "script": "echo first; sleep 1; echo last; exit 3"}, progress)
    assert (ran["stdout"], ran["exit_code"]) == ("first\nlast\n", 3), ran
    assert heard[0] == (6, "first\n") and "".join(text for _, text in heard) == ran["stdout"], heard
    await call("file_delete", {**which, "path": "/tmp/note"})
    return (await call(run, {**which, "argv": ["uname", "-n"]}))["stdout"].strip()


async def newest(server):
    from mcp.client.client import Client

    async with Client(server) as client:

        async def call(name, arguments, progress=None):
            result = await client.call_tool(name, arguments, progress_callback=progress)
            assert not result.is_error, result
            return result.structured_content

        host_name = await use(call, [tool.name for tool in (await client.list_tools()).tools])
        return client.protocol_version, host_name


async def before(server):
    from mcp import ClientSession
    from mcp.client.stdio import stdio_client

    async with stdio_client(server) as (reading, writing), ClientSession(reading, writing) as session:
        revision = (await session.initialize()).protocolVersion

        async def call(name, arguments, progress=None):
            result = await session.call_tool(name, arguments, progress_callback=progress)
            assert not result.isError, result
            return result.structuredContent

        return revision, await use(call, [tool.name for tool in (await session.list_tools()).tools])


def main():
    from importlib.metadata import version
    from os import environ

    # The SDK gives a server only a few of its own variables.
    server = StdioServerParameters(command=sys.argv[1], args=sys.argv[2:], env=dict(environ))
    talk = before if version("mcp").startswith("1.") else newest
    print(*asyncio.run(talk(server)))


main()
