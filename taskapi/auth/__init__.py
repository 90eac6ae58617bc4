"""Who is asking, and may they see this?"""
