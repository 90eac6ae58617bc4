"""`GET /api/tasks/{task_id}/status` with FastAPI and SQLAlchemy's asyncio, as their documentations show it."""

import datetime as dt
import os
from typing import Annotated

import jwt
from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

app = FastAPI()
engine = create_async_engine(os.environ["DATABASE_URL"])
sessions = async_sessionmaker(engine, expire_on_commit=False)
bearer = HTTPBearer()


class Base(DeclarativeBase):
    pass


class UserTask(Base):
    __tablename__ = "user_tasks"

    task_id: Mapped[str]
    user_id: Mapped[int]
    learning_path_id: Mapped[int | None]
    status: Mapped[str]
    stage: Mapped[str | None]
    progress: Mapped[float]
    total_items: Mapped[int | None]
    completed_items: Mapped[int]
    result_message: Mapped[str | None]
    error_details: Mapped[str | None]
    started_at: Mapped[str | None]
    ended_at: Mapped[str | None]
    id: Mapped[int] = mapped_column(primary_key=True)
    created_at: Mapped[str]
    updated_at: Mapped[str]


class UserTaskResponse(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    task_id: str
    user_id: int
    learning_path_id: int | None
    status: str
    stage: str | None
    progress: float
    total_items: int | None
    completed_items: int
    result_message: str | None
    error_details: str | None
    started_at: dt.datetime | None
    ended_at: dt.datetime | None
    id: int
    created_at: dt.datetime
    updated_at: dt.datetime


async def session():
    async with sessions() as session:
        yield session


def caller(credentials: Annotated[HTTPAuthorizationCredentials, Depends(bearer)]) -> int:
    try:
        claims = jwt.decode(credentials.credentials, os.environ["JWT_KEY"], ["HS256"])
    except jwt.PyJWTError:
        raise HTTPException(401) from None
    return int(claims["sub"])


@app.get("/api/tasks/{task_id}/status", response_model=UserTaskResponse)
async def status(
    task_id: str, user_id: Annotated[int, Depends(caller)], session: Annotated[AsyncSession, Depends(session)]
):
    task = await session.scalar(select(UserTask).where(UserTask.task_id == task_id))
    if task is None:
        raise HTTPException(404)
    if task.user_id != user_id:
        raise HTTPException(403)
    return task
